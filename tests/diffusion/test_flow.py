"""Noisy flow steps against the papers' formulas written out in float64, and against diffusers' own Euler step."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from pamela_rl.config import FLOW_NOISES, FlowNoise
from pamela_rl.diffusion.flow import FlowSchedule
from pamela_rl.diffusion.transitions import noise_of_steps

# FlowMatchEulerDiscreteScheduler(shift=3) after set_timesteps(10), from the project's list of facts
SIGMAS = [1, 0.9601, 0.9133, 0.8577, 0.7904, 0.7073, 0.6022, 0.4649, 0.278, 0.0089, 0]


def chain(noise: FlowNoise, eta: float, window: tuple[int, int] | None = None) -> FlowSchedule:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    return FlowSchedule(scheduler.timesteps, scheduler.sigmas, noise_of_steps(10, eta, window), noise)


def by_hand(
    noise: FlowNoise, eta: float, x: Tensor, v: Tensor, s: float, s_next: float, second: float
) -> tuple[Tensor, float]:
    """Mean and standard deviation of a step from the papers, in float64."""
    dt = s_next - s
    clean, noisy = x - s * v, x + (1 - s) * v
    if noise == "flow_sde":  # Flow-GRPO, equation 9; the coefficient at s = 1 takes the next level below the line
        sigma = eta * math.sqrt(s / (1 - (second if s == 1 else s)))
        mean = x * (1 + sigma**2 * dt / (2 * s)) + v * (1 + sigma**2 * (1 - s) / (2 * s)) * dt
        return mean, sigma * math.sqrt(-dt)
    if noise == "cps":
        std = s_next * math.sin(eta * math.pi / 2)
        return clean * (1 - s_next) + noisy * math.sqrt(s_next**2 - std**2), std
    score = -(x - (1 - s) * clean) / s**2
    return x + v * dt - 0.5 * eta**2 * score * dt, eta * math.sqrt(-dt)


@pytest.mark.parametrize(("noise", "eta"), [("flow_sde", 0.7), ("cps", 0.8), ("cps", 1.0), ("dance", 0.3)])
def test_every_step_is_the_papers_formula_in_float64(noise: FlowNoise, eta: float) -> None:
    schedule = chain(noise, eta)
    assert schedule.sigmas.tolist() == pytest.approx(SIGMAS, abs=6e-5)
    x, v = torch.randn(2, 3, 8, 4, 4, dtype=torch.float64)
    levels = schedule.sigmas.double().tolist()
    for place, (s, s_next) in enumerate(pairwise(levels)):
        mean, std = by_hand(noise, eta, x, v, s, s_next, levels[1])
        ours = schedule.transition(v, x, torch.full((3,), place))
        assert ours.mean.dtype == torch.float32
        torch.testing.assert_close(ours.mean.double(), mean, atol=2e-5, rtol=1e-5)
        assert ours.std.flatten().tolist() == pytest.approx([std] * 3, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("noise", FLOW_NOISES)
def test_without_noise_a_step_is_diffusers_own_to_the_bit(noise: FlowNoise) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    schedule = chain(noise, 0.0)
    latents = torch.randn(2, 16, 64)
    for place, timestep in enumerate(scheduler.timesteps):
        prediction = torch.randn(2, 16, 64)
        theirs = scheduler.step(prediction, timestep, latents).prev_sample
        ours = schedule.transition(prediction, latents, torch.full((2,), place))
        assert torch.equal(ours.mean, theirs)
        assert ours.std.abs().max() == 0
        latents = theirs


@pytest.mark.parametrize(("noise", "trained"), [("flow_sde", 9), ("cps", 8), ("dance", 10)])
def test_trained_steps_have_a_finite_density_at_the_first_and_the_last(noise: FlowNoise, trained: int) -> None:
    schedule = chain(noise, 0.7)
    steps = schedule.trainable_steps()
    assert steps.tolist() == list(range(trained))  # the last of the others add next to no noise
    latents = torch.randn(len(steps), 4, 4, 4, requires_grad=True)
    transition = schedule.transition(latents * 0.5, latents, steps)
    density = transition.log_prob(transition.sample(torch.randn(len(steps), 4, 4, 4)).detach())
    density.sum().backward()
    assert density.isfinite().all()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()


def walk(schedule: FlowSchedule, spread: float, centre: float = 0.0, count: int = 20_000) -> Tensor:
    """Sample a chain with the exact velocity of Gaussian data, from standard normal noise, ``(count,)``."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(count, 1, generator=generator)
    for place, s in enumerate(schedule.sigmas[:-1].tolist()):
        variance = (1 - s) ** 2 * spread**2 + s**2
        surplus = latents - (1 - s) * centre
        x0 = centre + (1 - s) * spread**2 / variance * surplus
        x1 = s / variance * surplus
        transition = schedule.transition(x1 - x0, latents, torch.full((count,), place))
        latents = transition.sample(torch.randn(count, 1, generator=generator))
    return latents.flatten()


def cps_spread(schedule: FlowSchedule, spread: float) -> float:
    """Standard deviation at the end of a CPS chain with the exact velocity: each step scales it and adds s'^2 sin^2."""
    variance, cosine = 1.0, torch.cos(schedule.eta.double() * math.pi / 2).tolist()
    for (s, s_next), c in zip(pairwise(schedule.sigmas.double().tolist()), cosine, strict=True):
        gain = ((1 - s_next) * (1 - s) * spread**2 + c * s_next * s) / ((1 - s) ** 2 * spread**2 + s**2)
        variance = gain**2 * variance + s_next**2 * (1 - c**2)
    return math.sqrt(variance)


@pytest.mark.parametrize(("noise", "eta"), [("flow_sde", 0.7), ("dance", 0.3)])
@pytest.mark.parametrize(("steps", "tolerance"), [(10, 0.2), (400, 0.03)])
def test_flow_sde_and_dance_keep_the_marginal(noise: FlowNoise, eta: float, steps: int, tolerance: float) -> None:
    """With the exact velocity of Gaussian data, noisy steps end where noiseless ones do: same mean, same spread."""
    spread, centre = 0.5, 1.0
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(steps)
    schedule = FlowSchedule(scheduler.timesteps, scheduler.sigmas, noise_of_steps(steps, eta, None), noise)
    latents = walk(schedule, spread, centre)
    assert float(latents.mean()) == pytest.approx(centre, abs=0.04)
    assert float(latents.std()) == pytest.approx(spread, rel=tolerance)


@pytest.mark.parametrize("spread", [0.5, 1.0])
@pytest.mark.parametrize("steps", [10, 400])
@pytest.mark.parametrize("eta", [0.4, 0.8])
def test_cps_loses_spread_as_its_closed_form_says(eta: float, steps: int, spread: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(steps)
    schedule = FlowSchedule(scheduler.timesteps, scheduler.sigmas, noise_of_steps(steps, eta, None), "cps")
    expected = cps_spread(schedule, spread)
    assert float(walk(schedule, spread).std()) == pytest.approx(expected, rel=0.02)
    if steps == 400:  # the limit of many steps
        assert expected == pytest.approx(spread * math.cos(eta * math.pi / 4), rel=0.02)


@pytest.mark.parametrize("first", [1.0, 1 - 2**-24, 0.99967])
def test_the_first_steps_noise_is_bounded_just_below_level_one(first: float) -> None:
    sigmas = torch.tensor([first, 0.9601, 0.5, 0.0])
    schedule = FlowSchedule(sigmas[:-1] * 1000, sigmas, noise_of_steps(3, 0.7, None), "flow_sde")
    step = schedule.transition(torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, dtype=torch.long))
    assert 0.65 < float(step.std) <= 0.7


def test_at_level_one_a_step_is_the_authors_to_the_bit() -> None:
    schedule = chain("flow_sde", 0.7)
    s, s_next = schedule.sigmas[:-1], schedule.sigmas[1:]
    authors = 0.7 * (s / (1 - torch.where(s == 1, schedule.sigmas[1], s))).sqrt() * (s - s_next).sqrt()
    step = schedule.transition(torch.zeros(10, 4), torch.zeros(10, 4), torch.arange(10))
    assert torch.equal(step.std.flatten(), authors)


def test_each_sample_may_be_at_its_own_step() -> None:
    schedule = chain("flow_sde", 0.7)
    latents, prediction, steps = torch.randn(4, 6, 5), torch.randn(4, 6, 5), torch.tensor([0, 5, 2, 9])
    together = schedule.transition(prediction, latents, steps)
    for row, step in enumerate(steps):
        alone = schedule.transition(prediction[row : row + 1], latents[row : row + 1], step[None])
        assert torch.equal(together.mean[row : row + 1], alone.mean)
        assert torch.equal(together.std[row : row + 1], alone.std)


@pytest.mark.parametrize("noise", FLOW_NOISES)
def test_outside_the_window_steps_are_deterministic(noise: FlowNoise) -> None:
    schedule, still, noisy = chain(noise, 0.7, (3, 5)), chain(noise, 0.0), chain(noise, 0.7)
    assert schedule.trainable_steps().tolist() == [3, 4]
    latents, prediction = torch.randn(10, 4), torch.randn(10, 4)
    steps = torch.arange(10)
    ours = schedule.transition(prediction, latents, steps)
    inside = (steps == 3) | (steps == 4)
    assert torch.equal(ours.mean[inside], noisy.transition(prediction, latents, steps).mean[inside])
    assert torch.equal(ours.mean[~inside], still.transition(prediction, latents, steps).mean[~inside])


def test_the_forward_process_is_diffusers_own_and_its_velocity_leads_back() -> None:
    schedule = chain("flow_sde", 0.7)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    clean, noise, steps = torch.randn(10, 8, 4, 4), torch.randn(10, 8, 4, 4), torch.arange(10)
    noisy = schedule.noised(clean, noise, steps)
    torch.testing.assert_close(noisy, scheduler.scale_noise(clean, scheduler.timesteps, noise), atol=1e-6, rtol=0)
    torch.testing.assert_close(schedule.clean(noise - clean, noisy, steps), clean, atol=1e-5, rtol=0)
    assert schedule.span.sum().item() == pytest.approx(1.0)
