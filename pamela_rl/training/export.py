"""Any checkpoint of a run as an adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import adapter_state, add_adapter, load_adapter_state, remove_adapter, save_adapter
from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
from pamela_rl.diffusion.saved_adapters import DRAWN_WITH
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.storage import folder_name
from pamela_rl.training.checkpoint import load_checkpoint
from pamela_rl.training.checkpoint_folders import checkpoint_folder
from pamela_rl.training.personalize import versions
from pamela_rl.training.state import EMA, check_fits

_FACTS = ("base_model", "reward", "ratings")  # of run.json, that an adapter names


def export_checkpoint(
    run: Path,
    user_id: str,
    checkpoint: str = "last",
    output_dir: Path | None = None,
    model: ModelSettings | None = None,
) -> Path:
    """Write a checkpoint of a user's run as an adapter, which loads as every other does.

    Args:
        run: The run's folder.
        user_id: Whose.
        checkpoint: "last", "best" (with the judge's highest mean), or the number of iterations of one that was kept.
        output_dir: A folder in the layout of a run, so that ``load_adapter`` and ``recipes/evaluate.py --adapters`` take it;
            None is ``exports/<checkpoint>/`` in the run.
        model: The base model, loaded on the CPU; None is the one that the run names.

    Returns:
        The adapter's folder.

    Raises:
        CheckpointError: There is no such user or checkpoint, or it is of another base model.
        ConfigError: The base model cannot be loaded.
    """
    folder = run / "users" / folder_name(user_id)
    source = checkpoint_folder(run, user_id, checkpoint)
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    saved = load_checkpoint(source)
    assert saved is not None  # checkpoint_folder
    model = model or ModelSettings(re.split(r" \d+ x \d+", str(facts["base_model"]))[0])
    policy = prepare_policy(load_pipeline(model.name), model, "cpu")
    lora = LoraSettings(**{setting.name: facts[f"lora.{setting.name}"] for setting in fields(LoraSettings)})
    name = folder_name(user_id)
    policy.adapt(lora.targets)
    add_adapter(policy, name, lora, seed=0)
    check_fits(source, adapter_state(policy, name), saved.adapter)
    load_adapter_state(policy, name, saved.adapter)
    if EMA in saved.copies:  # what would have been published
        policy.adapters[name].weights.data.copy_(saved.copies[EMA])
    recipe = f"{facts['algorithm']}, {saved.iteration} iterations x {facts['images_per_iteration']} images"
    info = {fact: str(facts[fact]) for fact in _FACTS if facts.get(fact)}
    info |= {"recipe": recipe, "checkpoint": checkpoint, "seed": str(facts["seed"]), **_use(facts), **versions()}
    target = save_adapter(policy, name, user_id, output_dir or run / "exports" / checkpoint, info, {})
    remove_adapter(policy, name)
    return target


def _use(facts: Mapping[str, Any]) -> dict[str, str]:
    """How a run's adapter is meant to be drawn, as far as its settings say."""
    guidance = facts["validation.guidance_scale"] or facts["sampling.guidance_scale"]
    size = re.search(r" (\d+) x (\d+)", str(facts["base_model"]))
    sides = (None, None) if size is None else size.groups()
    used = (facts["validation.num_inference_steps"], f"{guidance:g}", facts["sampling.negative_prompt"], *sides)
    return {name: str(value) for name, value in zip(DRAWN_WITH, used, strict=True) if value is not None}
