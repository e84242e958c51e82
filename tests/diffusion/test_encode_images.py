"""Rated images as latents, the inverse of decoding, and what the denoiser should predict from them once noised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from tiny_pipelines import BUILDERS, kl, reloaded, saved, stable_diffusion_xl
from torch import Tensor

from pamela_rl.config import FLOW_NOISES, FlowNoise
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.flow import FlowSchedule
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.transitions import noise_of_steps

HEIGHT, WIDTH = 32, 64
Loader = Callable[..., Policy]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: saved(name, root / name) for name in BUILDERS}


@pytest.fixture
def load(folders: dict[str, Path]) -> Loader:
    def fresh(family: str, dtype: torch.dtype = torch.float32) -> Policy:
        return policy_for(reloaded(folders[family], dtype), HEIGHT, WIDTH)

    return fresh


def given_to_decode(policy: Policy, latents: Tensor, patch: pytest.MonkeyPatch) -> Tensor:
    """What the VAE is given when the policy decodes latents."""
    vae, seen = policy.pipeline.vae, []
    own = vae.decode

    def noting(whole: Tensor, *arguments: Any, **options: Any) -> Any:
        seen.append(whole)
        return own(whole, *arguments, **options)

    patch.setattr(vae, "decode", noting)
    policy._decode(latents)
    return torch.cat(seen)


def encoded_by_the_vae(policy: Policy, images: Tensor) -> Tensor:
    pixels = images * 2 - 1
    output = policy.pipeline.vae.encode(pixels[:, :, None] if "Qwen" in type(policy.pipeline).__name__ else pixels)
    latents: Tensor = output.latent if hasattr(output, "latent") else output.latent_dist.mode()
    return latents


@torch.no_grad()
def check_inverse(policy: Policy, patch: pytest.MonkeyPatch) -> None:
    images = torch.rand(3, 3, HEIGHT, WIDTH)
    latents = policy.encode_images(images)
    assert latents.shape == policy.initial_latents([torch.Generator().manual_seed(seed) for seed in range(3)]).shape
    assert latents.dtype == torch.float32
    whole = encoded_by_the_vae(policy, images)
    assert float(whole.std()) > 0.01
    torch.testing.assert_close(given_to_decode(policy, latents, patch), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_encoded_is_decoded_from_the_latents_that_the_vae_gave(
    load: Loader, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load(family)
    if family.startswith("Flux2"):  # else one, which would hide a root that is left out
        policy.pipeline.vae.bn.running_var.uniform_(0.3, 3.0)
    check_inverse(policy, monkeypatch)


def test_a_vae_whose_latents_have_means_and_stds_is_undone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = stable_diffusion_xl()
    latents: dict[str, Any] = {"latents_mean": [0.1, -0.4, 0.3, 0.0], "latents_std": [1.5, 0.7, 0.8, 2.0]}
    pipeline.register_modules(vae=kl(**latents, scaling_factor=0.6))
    check_inverse(policy_for(pipeline, HEIGHT, WIDTH), monkeypatch)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_encoded_alone_as_beside_others_and_without_gradients(load: Loader, family: str) -> None:
    policy, images = load(family), torch.rand(3, 3, HEIGHT, WIDTH)
    together = policy.encode_images(images.requires_grad_())
    assert not together.requires_grad
    torch.testing.assert_close(policy.encode_images(images[1:2]), together[1:2], atol=1e-5, rtol=0)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("family", ["StableDiffusionXLPipeline", "FluxPipeline", "QwenImagePipeline"])
def test_latents_are_in_full_precision_whatever_the_vae_is_in(load: Loader, family: str) -> None:
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    whole, half = (load(family, dtype).encode_images(images) for dtype in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, atol=0.1, rtol=0.1)


def test_the_worlds_images_come_back_from_their_latents(policy: Policy) -> None:
    drawn = policy.pipeline(
        ["a boat", "a tree at night"], num_inference_steps=6, guidance_scale=1.0, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)],
    ).images  # fmt: skip
    latents = policy.encode_images(drawn)
    back = policy.decode(latents)
    assert float((back - drawn).abs().mean()) < 0.1 * float((drawn[0] - drawn[1]).abs().mean())
    assert 0.5 < float(latents.std()) < 2  # as the denoiser knows them


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_diffusion_models_target_leads_back_to_the_clean_latents(policy: Policy, prediction_type: str) -> None:
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction_type, steps_offset=1)
    policy.pipeline.register_modules(scheduler=scheduler)
    schedule = StableDiffusionPolicy(policy.pipeline).schedule(6, 0.0)
    clean, noise, steps = torch.randn(6, 8, 4, 4), torch.randn(6, 8, 4, 4), torch.arange(6)
    target = schedule.target(clean, noise, steps)
    theirs = scheduler.get_velocity(clean, noise, schedule.timesteps.long())
    torch.testing.assert_close(target, noise if prediction_type == "epsilon" else theirs, atol=1e-6, rtol=1e-5)
    led_back = schedule.clean(target, schedule.noised(clean, noise, steps), steps)
    torch.testing.assert_close(led_back, clean, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("noise", FLOW_NOISES)
@pytest.mark.parametrize("shape", [(8, 4, 4), (6, 5)])
def test_a_flow_models_target_leads_back_to_the_clean_latents(noise: FlowNoise, shape: tuple[int, ...]) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    schedule = FlowSchedule(scheduler.timesteps, scheduler.sigmas, noise_of_steps(10, 0.7, None), noise)
    clean, drawn, steps = torch.randn(10, *shape), torch.randn(10, *shape), torch.arange(10).flip(0)
    target = schedule.target(clean, drawn, steps)
    torch.testing.assert_close(target, drawn - clean)
    led_back = schedule.clean(target, schedule.noised(clean, drawn, steps), steps)
    torch.testing.assert_close(led_back, clean, atol=1e-5, rtol=0)
