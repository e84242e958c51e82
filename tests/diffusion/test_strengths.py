from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_pipelines import BUILDERS, CALL_OPTIONS, aligned
from torch import Tensor

import pamela_rl
from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, load_adapter_folder, remove_adapter, save_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import INFO, STRENGTH, recommended_strength
from pamela_rl.steering.generators import PipelineGenerator

PROMPTS, SEEDS = ["a boat", "a tree"], [1, 2]
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")


def published(policy: Policy, folder: Path, share: float = 1.0) -> Path:
    """An adapter whose effect on each layer is a share of the whole one's; it stays on as "ada"."""
    (weights,) = add_adapter(policy, "ada", LoraSettings(rank=2, alpha=4), seed=0)
    torch.nn.init.normal_(weights, std=0.1, generator=torch.Generator().manual_seed(1))
    for key, matrix in policy.adapters["ada"].matrices.items():
        matrix *= share if "lora_B" in key else 1
    return save_adapter(policy, "ada", f"Ada {share}", folder, {}, {})


def drawn(policy: Policy, name: str | None, strength: float = 1.0) -> Tensor:
    return PipelineGenerator(policy.pipeline, name, 4, strength=strength)(PROMPTS, SEEDS)


def test_at_no_strength_it_is_the_base_at_full_strength_the_adapter_and_between_a_part_of_it(
    policy: Policy, tmp_path: Path
) -> None:
    base = drawn(policy, None)
    whole_folder, half_folder = published(policy, tmp_path), published(policy, tmp_path, 0.5)
    remove_adapter(policy, "ada")
    load_adapter_folder(policy.pipeline, whole_folder, "ada")
    whole = drawn(policy, "ada")
    assert float((whole - base).abs().mean()) > 0.02
    torch.testing.assert_close(drawn(policy, "ada", 0.0), base, atol=1e-6, rtol=0)
    assert torch.equal(drawn(policy, "ada", 1.0), whole)
    half = drawn(policy, "ada", 0.5)
    load_adapter_folder(policy.pipeline, half_folder, "weaker")
    torch.testing.assert_close(half, drawn(policy, "weaker"), atol=1e-5, rtol=0)
    assert float((half - base).abs().mean()) > 0.01
    assert torch.equal(drawn(policy, "ada"), whole)  # a strength does not outlast its call


@pytest.mark.parametrize("family", ["StableDiffusionXLPipeline", "FluxPipeline", "SanaPipeline"])
def test_families_know_strengths(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = policy_for(aligned(BUILDERS[family]()), 32, 64)
    policy.pipeline.set_progress_bar_config(disable=True)
    for name, folder in [("ada", published(policy, tmp_path)), ("third", published(policy, tmp_path, 0.3))]:
        load_adapter_folder(policy.pipeline, folder, name)
    options = (2, 1.0, 2, 32, 64, "", CALL_OPTIONS.get(family, {}))
    part, same, whole = (
        PipelineGenerator(policy.pipeline, name, *options, strength)(PROMPTS, SEEDS)
        for name, strength in (("ada", 0.3), ("third", 1.0), ("ada", 1.0))
    )
    torch.testing.assert_close(part, same, atol=1e-5, rtol=0)
    assert float((part - whole).abs().max()) > 1e-4


def test_an_adapter_is_loaded_at_the_strength_that_is_asked_for(policy: Policy, tmp_path: Path) -> None:
    folder = published(policy, tmp_path)
    adapter = policy.adapters["ada"]

    def being_trained(strength: float) -> Tensor:
        adapter.strength = strength
        with policy.drawing():
            return drawn(policy, None)

    half, whole = being_trained(0.5), being_trained(1.0)

    def plain(pipeline: object) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        return pipeline(  # type: ignore[operator, no-any-return]
            PROMPTS, num_inference_steps=4, guidance_scale=1.0, generator=generators, output_type="pt"
        ).images

    loaded = pamela_rl.load_adapter(load_pipeline("world"), tmp_path, "Ada 1.0", strength=0.5)
    torch.testing.assert_close(plain(loaded), half, atol=1e-6, rtol=0)
    again = pamela_rl.load_adapter(load_pipeline("world"), tmp_path, "Ada 1.0")
    torch.testing.assert_close(plain(again), whole, atol=1e-6, rtol=0)
    other = load_adapter_folder(load_pipeline("world"), folder, "mine", 0.5)
    torch.testing.assert_close(plain(other), half, atol=1e-6, rtol=0)


def test_a_card_names_the_strength_and_how_to_use_it(policy: Policy, tmp_path: Path) -> None:
    published(policy, tmp_path)
    told = save_adapter(policy, "ada", "told", tmp_path, {STRENGTH: "0.75"}, {})
    untold = save_adapter(policy, "ada", "untold", tmp_path, {}, {})
    assert recommended_strength(told) == 0.75
    assert recommended_strength(untold) == 1.0
    assert json.loads((told / INFO).read_text(encoding="utf-8"))["recommended_strength"] == "0.75"
    card = (told / "README.md").read_text(encoding="utf-8")
    assert "Recommended strength: **0.75**" in card
    assert 'pipe.set_adapters("mine", 0.75)' in card
    other = (untold / "README.md").read_text(encoding="utf-8")
    assert "strength" not in other.lower()
    assert "load_lora_weights" in other
    assert "set_adapters" not in other
