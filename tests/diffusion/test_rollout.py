from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pamela_rl.config import LoraSettings, SamplingConfig
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.policy import adapter_off
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.types import PromptBatch

PROMPTS = ("a boat", "a tree, on the left", "a house", "a close-up of a flower", "a cactus")
SAMPLING = SamplingConfig(num_inference_steps=6, train_steps=3)


def batch(count: int = 5) -> PromptBatch:
    ids = torch.arange(count)
    return PromptBatch(PROMPTS[:count], ("u",) * count, ids, ids)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_without_noise_a_rollout_is_the_pipelines_own_picture(
    policy: StableDiffusionPolicy, guidance_scale: float
) -> None:
    quiet = replace(SAMPLING, eta=0.0, guidance_scale=guidance_scale)
    generators = [torch.Generator().manual_seed(0) for _ in PROMPTS]
    start = policy.initial_latents(generators)
    stock = policy.pipeline(
        list(PROMPTS), latents=start, num_inference_steps=6, guidance_scale=guidance_scale, output_type="pt"
    ).images
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    ours = rollout(policy, batch(), quiet, seed=3, iteration=0, batch_size=5).images
    torch.testing.assert_close(ours, stock, atol=2e-5, rtol=0)


def test_a_picture_depends_on_seed_iteration_and_its_own_number_alone(policy: StableDiffusionPolicy) -> None:
    whole = rollout(policy, batch(), SAMPLING, seed=3, iteration=2, batch_size=4)
    alone = PromptBatch(PROMPTS[3:4], ("u",), torch.tensor([3]), torch.tensor([3]))
    again = rollout(policy, alone, SAMPLING, seed=3, iteration=2, batch_size=4)
    torch.testing.assert_close(whole.images[3], again.images[0], atol=1e-5, rtol=0)
    other = rollout(policy, alone, SAMPLING, seed=3, iteration=3, batch_size=4)
    assert (whole.images[3] - other.images[0]).abs().max() > 0.1


def test_trajectories_are_whole_chains_in_fp32(policy: StableDiffusionPolicy) -> None:
    sampling = replace(SAMPLING, train_steps=6)  # every one of them has a density
    drawn = rollout(policy, batch(), sampling, seed=1, iteration=0, batch_size=5)
    assert drawn.latents.dtype == torch.float32
    assert torch.equal(drawn.latents[:, 1:], drawn.next_latents[:, :-1])
    assert drawn.log_probs.isfinite().all()
    assert drawn.images.min() >= 0
    assert drawn.images.max() <= 1


def test_adapter_off_is_the_base_model_bit_for_bit(policy: StableDiffusionPolicy) -> None:
    before = rollout(policy, batch(), SAMPLING, seed=1, iteration=0, batch_size=5).images
    weights = add_adapter(policy, "someone", LoraSettings(rank=2), seed=0)
    fresh = rollout(policy, batch(), SAMPLING, seed=1, iteration=0, batch_size=5).images
    assert torch.equal(before, fresh)
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.3)
    assert not torch.equal(before, rollout(policy, batch(), SAMPLING, seed=1, iteration=0, batch_size=5).images)
    with adapter_off(policy):
        assert torch.equal(before, rollout(policy, batch(), SAMPLING, seed=1, iteration=0, batch_size=5).images)
