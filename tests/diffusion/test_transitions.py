from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler

from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.transitions import Normal


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_every_step_is_diffusers_own(policy: StableDiffusionPolicy, prediction_type: str, eta: float) -> None:
    zero_snr = prediction_type == "v_prediction"
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction_type, rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else "leading",
    )  # fmt: skip
    policy.pipeline.register_modules(scheduler=scheduler)
    schedule = StableDiffusionPolicy(policy.pipeline).schedule(10, eta)
    scheduler.set_timesteps(10)
    # the referee counts in fp64: in fp32 its 1 - alpha - sigma^2 is not quite 0 where it should be
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    assert schedule.timesteps.tolist() == scheduler.timesteps.tolist()
    latents, prediction = torch.randn(3, 8, 4, 4), torch.randn(3, 8, 4, 4)
    for place, timestep in enumerate(scheduler.timesteps.tolist()):
        ours = schedule.transition(prediction, latents, torch.full((3,), place))
        zeros, ones = torch.zeros_like(latents), torch.ones_like(latents)
        mean = scheduler.step(prediction, timestep, latents, eta=eta, variance_noise=zeros).prev_sample.float()
        moved = scheduler.step(prediction, timestep, latents, eta=eta, variance_noise=ones).prev_sample.float()
        torch.testing.assert_close(ours.mean, mean, atol=2e-6, rtol=1e-6)
        torch.testing.assert_close(ours.std.expand_as(mean), moved - mean, atol=1e-6, rtol=1e-5)


def test_outside_the_window_steps_are_deterministic(policy: StableDiffusionPolicy) -> None:
    schedule, still, noisy = policy.schedule(8, 1.0, window=(2, 5)), policy.schedule(8, 0.0), policy.schedule(8, 1.0)
    assert schedule.trainable_steps().tolist() == [2, 3, 4]
    latents, prediction, steps = torch.randn(8, 8, 8, 8), torch.randn(8, 8, 8, 8), torch.arange(8)
    ours, inside = schedule.transition(prediction, latents, steps), (steps >= 2) & (steps < 5)
    assert torch.equal(ours.mean[inside], noisy.transition(prediction, latents, steps).mean[inside])
    assert torch.equal(ours.mean[~inside], still.transition(prediction, latents, steps).mean[~inside])


@pytest.mark.parametrize("steps_offset", [0, 1])
@pytest.mark.parametrize("set_alpha_to_one", [True, False])
def test_first_and_last_steps_are_finite_and_diffusers_own_for_any_scheduler(
    policy: StableDiffusionPolicy, steps_offset: int, set_alpha_to_one: bool
) -> None:
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=steps_offset, set_alpha_to_one=set_alpha_to_one)
    policy.pipeline.register_modules(scheduler=scheduler)
    schedule = StableDiffusionPolicy(policy.pipeline).schedule(5, 1.0)
    scheduler.set_timesteps(5)
    latents, prediction = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    for place in (0, 4):
        timestep, zeros = int(scheduler.timesteps[place]), torch.zeros_like(latents)
        theirs = scheduler.step(prediction, timestep, latents, eta=1.0, variance_noise=zeros).prev_sample
        ours = schedule.transition(prediction, latents, torch.full((2,), place))
        torch.testing.assert_close(ours.mean, theirs, atol=1e-5, rtol=1e-5)
    steps = schedule.trainable_steps()
    noisy = schedule.transition(torch.randn(len(steps), 8, 4, 4), torch.randn(len(steps), 8, 4, 4), steps)
    assert noisy.log_prob(noisy.sample(torch.randn(len(steps), 8, 4, 4))).isfinite().all()


def test_each_sample_may_be_at_its_own_step(policy: StableDiffusionPolicy) -> None:
    schedule = policy.schedule(12, 1.0)
    latents, prediction = torch.randn(4, 8, 8, 8), torch.randn(4, 8, 8, 8)
    steps = torch.tensor([0, 5, 2, 10])
    together = schedule.transition(prediction, latents, steps)
    for row, step in enumerate(steps):
        alone = schedule.transition(prediction[row : row + 1], latents[row : row + 1], step[None])
        assert torch.equal(together.mean[row : row + 1], alone.mean)


def test_every_trained_step_has_a_finite_density(policy: StableDiffusionPolicy) -> None:
    schedule = policy.schedule(12, 1.0)
    steps = schedule.trainable_steps()
    assert steps.tolist() == list(range(11))  # the last step of the world's schedule adds no noise
    latents = torch.randn(len(steps), 8, 8, 8)
    transition = schedule.transition(torch.randn_like(latents), latents, steps)
    assert transition.log_prob(transition.sample(torch.randn_like(latents))).isfinite().all()


def test_density_and_divergence_are_those_of_torch() -> None:
    first = Normal(torch.randn(2, 3, 4, 4), torch.tensor([0.3, 2.0]).view(2, 1, 1, 1))
    second = Normal(torch.randn(2, 3, 4, 4), first.std)
    value = first.sample(torch.randn(2, 3, 4, 4))
    theirs = [torch.distributions.Normal(n.mean, n.std.expand_as(n.mean)) for n in (first, second)]
    torch.testing.assert_close(first.log_prob(value), theirs[0].log_prob(value).mean((1, 2, 3)))
    divergence = torch.distributions.kl_divergence(theirs[0], theirs[1]).mean((1, 2, 3))
    torch.testing.assert_close(first.kl(second), divergence)
    assert math.isclose(first.kl(first).sum().item(), 0.0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_forward_process_is_diffusers_own_and_its_noise_leads_back(
    policy: StableDiffusionPolicy, prediction_type: str
) -> None:
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction_type, steps_offset=1)
    policy.pipeline.register_modules(scheduler=scheduler)
    schedule = StableDiffusionPolicy(policy.pipeline).schedule(6, 0.0)
    clean, noise, steps = torch.randn(6, 8, 4, 4), torch.randn(6, 8, 4, 4), torch.arange(6)
    noisy = schedule.noised(clean, noise, steps)
    times = schedule.timesteps.long()
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, times), atol=1e-6, rtol=1e-5)
    told = noise if prediction_type == "epsilon" else scheduler.get_velocity(clean, noise, times)
    torch.testing.assert_close(schedule.clean(told, noisy, steps), clean, atol=2e-4, rtol=1e-3)
    assert schedule.span.sum().item() == pytest.approx(
        float(schedule.alpha_bar_next[-1] - schedule.alpha_bar[0]), abs=1e-6
    )
    assert (schedule.span > 0).all()


def test_where_noise_is_left_open_ddpos_own_is_taken(policy: StableDiffusionPolicy) -> None:
    assert torch.equal(policy.schedule(5, None).eta, policy.schedule(5, 1.0).eta)
