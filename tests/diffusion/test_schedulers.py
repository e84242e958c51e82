"""Every scheduler that diffusers ships for the nine families: the stock pipeline's images, its levels, or a refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_pipelines import reloaded, saved

from pamela_rl.config import FLOW_NOISES, FlowNoise, SamplingConfig
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.diffusion.schedulers import (
    DDIM_KIND,
    EULER_KIND,
    FLOW_KIND,
    SOLVER_KIND,
    DiffusionLevels,
    euler_scheduler,
)
from pamela_rl.errors import ConfigError
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.types import PromptBatch

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACINGS = ("leading", "linspace", "trailing")
QUIET = SamplingConfig(eta=0.0, train_steps=1)
PROMPTS, SEEDS = ["a boat", "a tree at dusk"], [3, 4]
FIRST_ORDER = {  # deterministic schedulers of first order: name of the class, settings
    "DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "DDIM, steps offset": ("DDIMScheduler", {"clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler, Karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "Euler, velocity": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    "Euler, velocity from no signal": (
        "EulerDiscreteScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    ),
    "DPM++ of first order": ("DPMSolverMultistepScheduler", {"solver_order": 1}),
}  # fmt: skip
# diffusers accumulates in other units (sigma instead of signal and noise): pixels in [0, 1] differ by rounding, most at 4,096
TOLERANCE = {"DDIM": 1e-6, "DDIM, steps offset": 1e-6, "Euler, velocity from no signal": 1e-4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("schedulers")
    names = ("StableDiffusionPipeline", "StableDiffusion3Pipeline", "SanaPipeline")
    return {name: saved(name, root / name) for name in names}


def batch() -> PromptBatch:
    ids = torch.arange(len(PROMPTS))
    return PromptBatch(tuple(PROMPTS), ("u",) * len(PROMPTS), ids, ids)


@pytest.mark.parametrize(
    "steps", [4, pytest.param(10, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", FIRST_ORDER)
def test_without_noise_a_rollout_is_the_stock_pipelines_image_at_its_schedulers_levels(
    folders: dict[str, Path], kind: str, spacing: str, steps: int
) -> None:
    name, settings = FIRST_ORDER[kind]
    pipeline = reloaded(folders["StableDiffusionPipeline"])
    pipeline.scheduler = getattr(diffusers, name)(**BETAS, **settings, timestep_spacing=spacing)
    policy = policy_for(pipeline, 16, 16)
    stock = PipelineGenerator(pipeline, None, steps, 1.0, 2, 16, 16)(PROMPTS, SEEDS)
    start = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in SEEDS])
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    ours = rollout(policy, batch(), replace(QUIET, num_inference_steps=steps), 0, 0, 2).images
    assert ours.std() > 0.01
    assert float((ours - stock).abs().max()) <= TOLERANCE.get(kind, 2e-5)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", [*EULER_KIND, *SOLVER_KIND])
def test_levels_are_the_schedulers_own_where_a_step_becomes_first_order(name: str, spacing: str) -> None:
    settings = {} if name == "DPMSolverSinglestepScheduler" else {"timestep_spacing": spacing}
    scheduler = getattr(diffusers, name)(**BETAS, **settings)
    _, before, after = DiffusionLevels(scheduler).chain(6)
    scheduler.set_timesteps(6)
    own = list(dict.fromkeys(scheduler.sigmas.tolist()))  # Heun's and KDPM2's list each twice
    torch.testing.assert_close((1 / before - 1).sqrt(), torch.tensor(own[:6]), rtol=2e-4, atol=1e-4)
    assert torch.equal(before[1:], after[:-1])


def test_the_ancestral_schedulers_step_is_ddims_with_full_noise() -> None:
    scheduler = diffusers.EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    _, before, after = DiffusionLevels(scheduler).chain(4)
    up = (scheduler.sigmas[1:] ** 2 * (scheduler.sigmas[:-1] ** 2 - scheduler.sigmas[1:] ** 2)).sqrt()
    up = up / scheduler.sigmas[:-1]  # standard deviation of its noise, in its units
    ours = ((1 - after) / (1 - before) * (1 - before / after)).sqrt()
    torch.testing.assert_close(ours, up * after.sqrt(), rtol=1e-3, atol=1e-5)


REFUSED = (
    "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "LCMScheduler", "TCDScheduler",
    "CMStochasticIterativeScheduler", "IPNDMScheduler", "FlowMatchEulerDiscreteScheduler", "DDPMWuerstchenScheduler",
)  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_scheduler_whose_steps_cannot_be_trained_is_refused_by_name(folders: dict[str, Path], name: str) -> None:
    pipeline = reloaded(folders["StableDiffusionPipeline"])
    pipeline.scheduler = getattr(diffusers, name)()
    with pytest.raises(ConfigError, match=f"scheduler is {name}, .* one of DDIMScheduler, .*EulerDiscreteScheduler"):
        policy_for(pipeline, 16, 16)


def test_every_scheduler_of_the_pipelines_is_supported_or_refused() -> None:
    """A scheduler that a later diffusers adds to those of Stable Diffusion fails here until it is decided upon."""
    from diffusers.schedulers import KarrasDiffusionSchedulers

    offered = {scheduler.name for scheduler in KarrasDiffusionSchedulers}
    decided = {*DDIM_KIND, *EULER_KIND, *SOLVER_KIND, *REFUSED, "DPMSolverSDEScheduler"}  # the last needs torchsde
    assert offered <= decided


def test_noise_predicted_where_there_is_no_signal_is_refused(folders: dict[str, Path]) -> None:
    for name in ("DDIMScheduler", "EulerDiscreteScheduler"):
        pipeline = reloaded(folders["StableDiffusionPipeline"])
        kind = getattr(diffusers, name)
        pipeline.scheduler = kind(**BETAS, rescale_betas_zero_snr=True, timestep_spacing="trailing")
        with pytest.raises(ConfigError, match=r"first level has no signal"):
            policy_for(pipeline, 16, 16).schedule(10, 1.0)
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, prediction_type="v_prediction")
        schedule = policy_for(pipeline, 16, 16).schedule(10, 1.0)
        latents = torch.randn(10, 4, 8, 8)
        assert schedule.transition(latents, latents, torch.arange(10)).mean.isfinite().all()


def test_flow_schedulers_that_re_noise_are_refused() -> None:
    with pytest.raises(ConfigError, match="scheduler is FlowMatchLCMScheduler"):
        euler_scheduler(diffusers.FlowMatchLCMScheduler())
    with pytest.raises(ConfigError, match="stochastic_sampling"):
        euler_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True))
    with pytest.raises(ConfigError, match=f"give the pipeline a {' or '.join(FLOW_KIND)}"):
        euler_scheduler(diffusers.DDIMScheduler())


@pytest.mark.parametrize("noise", FLOW_NOISES)
@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.FlowMatchEulerDiscreteScheduler(shift=1.18),  # starts at the float just below 1
        diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0),
    ],
    ids=["SD3", "just below 1", "Heun"],
)
def test_noisy_flow_chains_end_with_the_spread_of_quiet_ones(
    folders: dict[str, Path], scheduler: Any, noise: FlowNoise
) -> None:
    check_spread(folders["StableDiffusion3Pipeline"], scheduler, noise)


@pytest.mark.parametrize("noise", FLOW_NOISES)
def test_sanas_published_solver_starts_below_level_one_and_does_not_blow_up(
    folders: dict[str, Path], noise: FlowNoise
) -> None:
    solver = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    check_spread(folders["SanaPipeline"], solver, noise)


def check_spread(folder: Path, scheduler: Any, noise: FlowNoise) -> None:
    pipeline = reloaded(folder)
    pipeline.register_modules(scheduler=scheduler)
    policy = policy_for(pipeline, 32, 32)
    schedule = policy.schedule(10, None, noise)
    first = schedule.transition(
        *policy.initial_latents([torch.Generator()]).expand(2, 1, -1, -1, -1), torch.tensor([0])
    )
    if noise == "flow_sde":
        assert float(first.std.max()) <= float(schedule.eta[0]) + 1e-6
    noisy, quiet = (
        rollout(policy, batch(), SamplingConfig(eta=eta, flow_noise=noise, train_steps=1), 0, 0, 2).final_latents
        for eta in (None, 0.0)
    )
    assert 0.5 < float(noisy.std() / quiet.std()) < 1.6
