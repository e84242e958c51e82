"""Models distilled for few steps, in small: trained with the steps, levels and guidance that they are used with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)
from learning import learn
from tiny_pipelines import (
    CALL_OPTIONS,
    flux,
    flux2_klein,
    reloaded,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
    unet,
    z_image,
)

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout, schedule_of
from pamela_rl.errors import ConfigError
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.types import PromptBatch

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PROMPTS, SEEDS = ["a boat", "a tree at dusk"], [3, 4]


@dataclass(frozen=True)
class FewSteps:
    """A published few-step model: how it is built, and how it is used."""

    build: Callable[[], Any]
    steps: int
    guidance_scale: float = 1.0
    ancestral: bool = False  # the stock sampler adds noise of its own


def with_scheduler(build: Callable[[], Any], scheduler: Any) -> Callable[[], Any]:
    def built() -> Any:
        pipeline = build()
        pipeline.register_modules(scheduler=scheduler)
        return pipeline

    return built


def lcm_distilled() -> Any:
    pipeline = stable_diffusion()
    trailing = DDIMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing")
    pipeline.register_modules(unet=unet(time_cond_proj_dim=8), scheduler=trailing)
    return pipeline


def klein() -> Any:
    pipeline = flux2_klein()
    pipeline.register_to_config(is_distilled=True)
    return pipeline


TRAILING: dict[str, Any] = {**BETAS, "timestep_spacing": "trailing"}
MODELS = {
    "SDXL-Turbo": FewSteps(
        with_scheduler(stable_diffusion_xl, EulerAncestralDiscreteScheduler(**TRAILING)), 4, ancestral=True
    ),
    "SDXL-Lightning": FewSteps(with_scheduler(stable_diffusion_xl, EulerDiscreteScheduler(**TRAILING)), 4),
    "LCM with DDIM's steps": FewSteps(lcm_distilled, 4, guidance_scale=8.0),
    "FLUX.1-schnell": FewSteps(
        with_scheduler(lambda: flux(guidance_embeds=False), FlowMatchEulerDiscreteScheduler(shift=1.0)), 4
    ),
    "SD3.5-turbo": FewSteps(stable_diffusion_3, 4),
    "Z-Image-Turbo": FewSteps(with_scheduler(z_image, FlowMatchEulerDiscreteScheduler(shift=3.0)), 8),
    "FLUX.2 klein": FewSteps(klein, 4),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FewSteps, Policy]:
    torch.manual_seed(0)
    kind = MODELS[request.param]
    kind.build().save_pretrained(tmp_path)
    policy: Any = policy_for(reloaded(tmp_path), 32, 32)
    policy.encode_options = CALL_OPTIONS.get(type(policy.pipeline).__name__, {})
    return kind, policy


def batch() -> PromptBatch:
    ids = torch.arange(len(PROMPTS))
    return PromptBatch(tuple(PROMPTS), ("u",) * len(PROMPTS), ids, ids)


def test_without_noise_a_rollout_is_the_stock_pipelines_image(model: tuple[FewSteps, Policy]) -> None:
    kind, policy = model
    if kind.ancestral:
        policy.pipeline.scheduler = EulerDiscreteScheduler.from_config(policy.pipeline.scheduler.config)
    options = CALL_OPTIONS.get(type(policy.pipeline).__name__, {})
    stock = PipelineGenerator(policy.pipeline, None, kind.steps, kind.guidance_scale, 1, 32, 32, options=options)(
        PROMPTS, SEEDS
    )
    start = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in SEEDS])
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    quiet = SamplingConfig(num_inference_steps=kind.steps, eta=0.0, guidance_scale=kind.guidance_scale, train_steps=1)
    ours = rollout(policy, batch(), quiet, 0, 0, 1)
    assert ours.negative is None  # no unconditional branch: guidance is distilled, or none
    torch.testing.assert_close(ours.images, stock, atol=1e-5, rtol=0)


def test_ratios_are_one_and_the_last_steps_without_noise_are_not_trained(model: tuple[FewSteps, Policy]) -> None:
    kind, policy = model
    weights = add_adapter(policy, "ada", LoraSettings(rank=2, alpha=4), seed=0)
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.1)
    sampling = SamplingConfig(num_inference_steps=kind.steps, guidance_scale=kind.guidance_scale, train_steps=2)
    config = TrainConfig(images_per_iteration=2, group_size=2, batch_size=2, sampling=sampling)
    drawn = rollout(policy, batch(), sampling, 0, 0, 2)
    assert drawn.images.isfinite().all()
    assert drawn.log_probs.isfinite().all()
    algorithm = DDPO(num_updates=1)
    algorithm.check_schedule(config, schedule_of(policy, sampling))
    optimizer = torch.optim.SGD(weights, lr=1e-3)
    stats = learn(algorithm, Accelerator(cpu=True), policy, optimizer, drawn, torch.tensor([1.0, -1.0]), config)
    assert stats["train/sampling_mismatch"] == 0.0
    assert stats["train/grad_norm"] > 0


def test_one_step_has_no_noise_to_learn_from_but_a_reward_gradient(tmp_path: Path) -> None:
    MODELS["SDXL-Turbo"].build().save_pretrained(tmp_path)
    policy = policy_for(reloaded(tmp_path), 32, 32)
    sampling = SamplingConfig(num_inference_steps=1, train_steps=1)
    config = TrainConfig(images_per_iteration=2, group_size=2, batch_size=2, sampling=sampling)
    with pytest.raises(
        ConfigError, match=r"train_steps is 1 but only 0 of the 1 steps have noise .* DRaFT or DiffusionNFT"
    ):
        DDPO().check_schedule(config, schedule_of(policy, sampling))
    DRaFT().check_schedule(config, schedule_of(policy, sampling))
    weights = add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    quiet = DRaFT().sampling(config, 0)
    drawn = rollout(policy, batch(), quiet, 0, 0, 2, DRaFT().kept_steps)
    stats = learn(
        DRaFT(), Accelerator(cpu=True), policy, torch.optim.SGD(weights, lr=1e-3), drawn, torch.zeros(2), config
    )
    assert stats["train/grad_norm"] > 0


def test_consistency_steps_are_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    with_scheduler(stable_diffusion, LCMScheduler(**BETAS))().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"scheduler is LCMScheduler, .* DDIMScheduler"):
        policy_for(reloaded(tmp_path), 32, 32)


def test_a_latent_size_of_two_numbers_is_height_and_width(tmp_path: Path) -> None:
    pipeline = stable_diffusion()
    pipeline.register_modules(unet=unet(sample_size=(8, 12)))
    pipeline.save_pretrained(tmp_path)
    policy = policy_for(reloaded(tmp_path))
    assert (policy.height, policy.width) == (16, 24)
