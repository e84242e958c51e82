"""Copies of an adapter's or a reward's files that do not tell whose they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData, metadata_load

from pamela_rl.diffusion.model_card import model_card
from pamela_rl.diffusion.saved_adapters import (
    COMFYUI,
    DRAWN_WITH,
    HEADER,
    INFO,
    SAMPLES,
    STRENGTH,
    WEIGHTS,
    adapter_base_model,
    hub_id,
    read_file,
)
from pamela_rl.rewards.saved import CONFIG, TENSORS, SavedReward
from pamela_rl.storage import SHIPPED_PIPELINES, write_tensors, write_text

CARD = "README.md"
ADAPTER_FILES = (CARD, INFO, WEIGHTS, COMFYUI, SAMPLES)
REWARD_FILES = (CONFIG, TENSORS)
_FACTS = (  # of an adapter, that tell nothing of a person
    *("base_model", "reward", "recipe", "rank", "alpha", "seed", "images_spent", STRENGTH),
    *("pamela_rl", "torch", "diffusers", "transformers", "peft", "accelerate"),
)


def copy_adapter(folder: Path, target: Path) -> list[str]:
    """Copy an adapter's files without its user id, the digest of their answers, and paths.

    Args:
        folder: Of the adapter.
        target: An empty folder.

    Returns:
        Names of the facts that were left out or shortened.
    """
    facts = json.loads((folder / INFO).read_text(encoding="utf-8"))
    kept = {key: _without_path(facts[key]) for key in _FACTS if key in facts}
    kept |= {key: facts[key] for key in DRAWN_WITH if key in facts}
    if "base_model" in facts:
        kept["base_model"] = facts["base_model"] if _is_public(folder, facts["base_model"]) else "a local model"
    for file in (WEIGHTS, COMFYUI):
        if (folder / file).exists():
            tensors, header = read_file(folder / file)
            foreign = {key: value for key, value in header.items() if key in ("format", "lora_adapter_metadata")}
            write_tensors(target / file, tensors, foreign | {f"{HEADER}{key}": value for key, value in kept.items()})
    samples = [file for file in (SAMPLES,) if (folder / file).exists()]
    for file in samples:
        (target / file).write_bytes((folder / file).read_bytes())
    write_text(target / INFO, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    write_text(target / CARD, model_card(kept, samples, (target / COMFYUI).exists()))
    return [key for key in facts if kept.get(key) != facts[key]]


def copy_reward(folder: Path, target: Path) -> list[str]:
    """Copy a reward's files with numbers for its users, and without names of images, digests of answers, and paths.

    Args:
        folder: Of the reward.
        target: An empty folder.

    Returns:
        Names of what was left out or replaced.
    """
    saved = SavedReward.read(folder)
    fitted_on = saved.config["fitted_on"]
    users = dict.fromkeys((*saved.user_ids, *fitted_on["users"]))
    names = {user: f"person-{number}" for number, user in enumerate(users, start=1)}
    left = {"users": [names[user] for user in fitted_on["users"]], "images": [], "answers": {}}
    encoder = saved.encoder_name
    config = {
        **_renamed(saved.config, names),
        "encoder_name": encoder if encoder.startswith("hf-hub:") else Path(encoder).name,
        "fitted_on": fitted_on | left,
    }
    write_text(target / CONFIG, json.dumps(config, indent=1) + "\n")
    (target / TENSORS).write_bytes((folder / TENSORS).read_bytes())
    return ["user ids", "names of images", "digests of answers", "path of the encoder"]


def reward_card(kind: str) -> str:
    """Write a README for a reward, with the hub's metadata."""
    data = ModelCardData(library_name="pamela_rl", tags=["reward-model", "text-to-image", "personal-alignment"])
    return (
        f"---\n{data.to_yaml()}\n---\n\n# A personal reward\n\nA {kind} fitted by pamela_rl: it foretells what each of "
        'its people thinks of an image. Download the folder, then:\n\n```python\nreward = pamela_rl.open_reward("FOLDER")\n```\n'
    )


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same JSON with other names in every ``user_ids``."""
    if not isinstance(value, dict):
        return value
    return {
        key: [names[user] for user in part] if key == "user_ids" else _renamed(part, names)
        for key, part in value.items()
    }


def _is_public(folder: Path, base_model: str) -> bool:
    """Whether the base model is the package's own, or on the hub: the card knows, written where a folder could be seen."""
    card = folder / CARD
    on_hub = (metadata_load(card) or {}).get("base_model") if card.exists() else None
    return adapter_base_model(folder) in SHIPPED_PIPELINES or (on_hub is not None and hub_id(base_model) == on_hub)


def _without_path(value: str) -> str:
    return "not told" if "/" in value or "\\" in value else value
