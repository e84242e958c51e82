"""What is written beside an adapter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from rated_examples import prompts_of, rated
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.sft import SFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import images_spent, recommended_strength
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.training import personalize as module
from pamela_rl.training.personalize import Provenance, personalize, versions
from pamela_rl.types import Verdict

CONFIG = TrainConfig(
    num_iterations=1,
    images_per_iteration=8,
    group_size=4,
    batch_size=8,
    sampling=SamplingConfig(num_inference_steps=3, train_steps=2),
    lora=LoraSettings(rank=2, alpha=2),
    validation=ValidationSettings(every=0, num_images=4, strengths=[1.0, 0.5, 0.25]),
)


def test_a_package_that_was_not_installed_costs_no_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("torch", "on-the-path-only"))
    named = versions()
    assert named["torch"][0].isdigit()
    assert named["on-the-path-only"] == "unknown"


def test_a_base_model_is_another_where_its_settings_change_what_is_learned_and_no_other(
    small_policy: Policy, tmp_path: Path
) -> None:
    model = ModelSettings()
    first = Provenance.of(model, small_policy, "darkness")
    beside = (
        {"gradient_checkpointing": True, "offload": True, "compile": "blocks"},
        {"cuda_graphs": True},
        {"shard": True},
    )
    for settings in beside:
        assert Provenance.of(replace(model, **settings), small_policy, "darkness") == first
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    for settings in ({"dtype": "bfloat16"}, {"detach_unconditional": True}, {"family": tmp_path / "mine.py"}):
        assert Provenance.of(replace(model, **settings), small_policy, "darkness") != first


def indifferent(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
    return Verdict(torch.ones(len(images)))


@pytest.mark.parametrize(("judged", "strength"), [(True, 0.25), (False, 1.0)])
def test_a_card_names_the_strength_that_the_judge_found_as_good(
    judged: bool, strength: float, small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    monitors, source = {"judge": indifferent} if judged else {}, PromptSource(["a boat"], "ada")
    folder = personalize(small_policy, darkness, source, CONFIG, DDPO(), tmp_path, accelerator, None, monitors, 2)
    assert recommended_strength(folder) == strength
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert ("Recommended strength: **0.25**" in card) == judged
    assert ('set_adapters("mine", 0.25)' in card) == judged
    rows = json.loads((tmp_path / "users" / "ada" / "strengths.json").read_text())["rows"]
    assert [row["strength"] for row in rows] == [1.0, 0.5, 0.25]


def test_an_adapter_of_rated_images_is_published_and_says_that_it_drew_none_to_learn_from(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    examples, config = rated(), replace(CONFIG, num_iterations=2, validation=ValidationSettings(every=2, num_images=4))
    base = PipelineGenerator(small_policy.pipeline, None, 2, 1.0, 1, 32, 32)(["a boat"], [0])
    folder = personalize(
        small_policy, None, prompts_of(examples), config, SFT(learning_rate=1e-2), tmp_path, accelerator,
        num_inference_steps=2, examples=examples,
    )  # fmt: skip
    facts = json.loads((folder / "adapter.json").read_text(encoding="utf-8"))
    assert facts["recipe"] == "sft, 2 iterations x 8 images"
    assert images_spent(tmp_path, "ada") == 2 * 4  # of two validations
    assert "NoneType" not in json.dumps(facts)
    small_policy.pipeline.load_lora_weights(folder, adapter_name="hers")
    own = PipelineGenerator(small_policy.pipeline, "hers", 2, 1.0, 1, 32, 32)(["a boat"], [0])
    assert float((own - base).abs().mean()) > 1e-3
