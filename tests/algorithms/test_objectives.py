"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.ddpo_sf import DDPOSF
from pamela_rl.algorithms.grpo import GRPO
from pamela_rl.algorithms.policy_gradient import Pairs
from pamela_rl.config import FlowNoise, SamplingConfig, TrainConfig
from pamela_rl.diffusion.flow import FlowSchedule
from pamela_rl.diffusion.transitions import Normal, noise_of_steps
from pamela_rl.errors import ConfigError

PAIRS = Pairs(
    log_probs=torch.tensor([-1.0, -2.0]),
    old_log_probs=torch.tensor([-1.5, -2.0]),
    advantages=torch.tensor([2.0, -1.0]),
    step=Normal(torch.ones(2, 1, 2, 2), torch.full((2, 1, 1, 1), 0.5)),
    old_mean=torch.full((2, 1, 2, 2), 0.5),
    span=torch.tensor([0.25, 0.5]),
)


def test_the_score_functions_loss_is_the_advantage_times_the_log_probability() -> None:
    losses, ratio = DDPOSF().objective(PAIRS)
    torch.testing.assert_close(losses, torch.tensor([2.0, -2.0]))
    torch.testing.assert_close(ratio, torch.tensor([math.exp(0.5), 1.0]))


def test_the_score_function_takes_one_step_an_iteration() -> None:
    with pytest.raises(ConfigError, match=r"ddpo_sf takes 2 optimizer steps .* use 1 and 1, or ddpo"):
        DDPOSF(num_updates=2)


def test_ddpo_is_cautious_about_gains_only() -> None:
    losses, _ = DDPO(clip_range=0.1).objective(PAIRS)
    torch.testing.assert_close(losses, torch.tensor([-2 * 1.1, 1.0]))
    worse = replace(PAIRS, advantages=torch.tensor([-2.0, -1.0]))
    torch.testing.assert_close(DDPO(clip_range=0.1).objective(worse)[0][0], torch.tensor(2 * math.exp(0.5)))


def test_the_guard_centres_the_ratio_scales_it_by_the_noise_and_the_loss_by_the_span() -> None:
    # (mean - old mean)^2 = .25, over 2 x .5^2 gives .5; log-ratios .5 and 0 become (.5 + .5) x .5 = .5 and .25
    losses, ratio = GRPO(guard=True, clip_range=0.9).objective(PAIRS)
    torch.testing.assert_close(ratio, torch.tensor([math.exp(0.5), math.exp(0.25)]))
    torch.testing.assert_close(losses, torch.tensor([-2 * math.exp(0.5) / 0.25, math.exp(0.25) / 0.5]))


def test_the_guard_sees_no_bias_where_the_mean_moved_and_the_step_was_drawn_from_the_old_one() -> None:
    generator = torch.Generator().manual_seed(0)
    std, count = torch.full((4000, 1, 1, 1), 0.5), 4000
    old_mean = torch.zeros(count, 1, 2, 2)
    old, new = Normal(old_mean, std), Normal(old_mean + 0.3, std)
    drawn = old.sample(torch.randn(old_mean.shape, generator=generator))
    pairs = Pairs(new.log_prob(drawn), old.log_prob(drawn), torch.ones(count), new, old_mean, torch.ones(count))
    plain = pairs.ratio.log().mean()
    guarded = GRPO(guard=True).objective(pairs)[1].log().mean()
    assert plain < -0.15  # -(.3 / .5)^2 / 2 = -.18: pushed down whatever the reward
    assert abs(guarded) < 0.01


def flow_schedule(noise: FlowNoise) -> FlowSchedule:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    return FlowSchedule(scheduler.timesteps, scheduler.sigmas, noise_of_steps(10, 0.7, None), noise)


def test_the_kl_of_flow_grpos_code_is_its_formula_and_the_exact_one_is_the_normals_own() -> None:
    schedule, steps = flow_schedule("flow_sde"), torch.arange(9)
    latents, prediction, other = torch.randn(3, 9, 4, 2, 2).unbind()
    now, reference = (schedule.transition(output, latents, steps) for output in (prediction, other))
    s, second = schedule.sigmas[:9], schedule.sigmas[1]
    std_dev_t = 0.7 * (s / (1 - torch.where(s == 1, second, s))).sqrt()
    theirs = (now.mean - reference.mean).square().flatten(1).mean(dim=1) / (2 * std_dev_t.square())
    kl, span = now.kl(reference), schedule.span[steps]
    torch.testing.assert_close(GRPO(kl_form="flow_grpo").kl_penalty(kl, span), theirs)
    torch.testing.assert_close(GRPO().kl_penalty(kl, span), kl)
    normals = torch.distributions.kl_divergence(
        *(torch.distributions.Normal(n.mean, n.std.expand_as(n.mean)) for n in (now, reference))
    )
    torch.testing.assert_close(kl, normals.flatten(1).mean(dim=1))
    factors = (kl / theirs).tolist()
    assert factors[0] == pytest.approx(25, rel=0.02)  # 1 / (1 - .9601)
    assert factors[8] == pytest.approx(3.7, rel=0.02)  # 1 / (.278 - .0089)


@pytest.mark.parametrize("noise", ["cps", "dance"])
def test_the_kl_of_flow_grpos_code_is_refused_for_other_noise(noise: FlowNoise) -> None:
    with pytest.raises(
        ConfigError, match=f"'flow_grpo', which is defined for flow_sde noise, but the noise is {noise}"
    ):
        GRPO(kl_form="flow_grpo").check_schedule(RUN, flow_schedule(noise))
    GRPO(kl_form="flow_grpo").check_schedule(RUN, flow_schedule("flow_sde"))


SAMPLING = SamplingConfig(num_inference_steps=10, window_size=3, train_steps=2)
RUN = TrainConfig(sampling=SAMPLING)


def test_a_sliding_window_goes_along_the_chain_and_begins_again() -> None:
    algorithm = GRPO(window="sliding", window_every=2, window_stride=2)
    starts = [algorithm.sampling(RUN, iteration).window_start for iteration in range(10)]
    assert starts == [0, 0, 2, 2, 4, 4, 6, 6, 1, 1]
    assert algorithm.sampling(RUN, 6).window == (6, 9)  # the last step has next to no noise


def test_a_random_window_lies_in_the_first_half_and_is_the_same_when_a_run_goes_on() -> None:
    algorithm = GRPO(window="random")
    starts = [algorithm.sampling(RUN, iteration).window_start for iteration in range(200)]
    assert set(starts) == {0, 1, 2}  # windows of three within the first five
    other = [algorithm.sampling(replace(RUN, seed=1), iteration).window_start for iteration in range(200)]
    assert other != starts
    assert starts == [algorithm.sampling(RUN, iteration).window_start for iteration in range(200)]


def test_a_fixed_window_stays_where_it_is_put() -> None:
    placed = replace(SAMPLING, window_start=4)
    assert GRPO().sampling(replace(RUN, sampling=placed), 7) == placed


def test_a_window_that_moves_is_not_placed_by_hand() -> None:
    with pytest.raises(ConfigError, match=r"window is 'random' but sampling.window_start is 4, .* leave it 0"):
        GRPO(window="random").check(TrainConfig(sampling=replace(SAMPLING, window_start=4)))


def test_a_window_that_moves_needs_a_size() -> None:
    with pytest.raises(ConfigError, match=r"window is 'sliding' but sampling\.window_size is not set"):
        GRPO(window="sliding").check(TrainConfig())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"clip_range": 0.0}, "grpo's clip_range is 0.0"),
        ({"learning_rate": -1.0}, "grpo's learning_rate is -1.0; use a positive one"),
        ({"kl_weight": -0.1}, "grpo's kl_weight is -0.1"),
        ({"kl_weight": 0.0, "kl_target": 0.1}, "kl_target is 0.1 but its kl_weight is 0"),
        ({"num_updates": 0}, "grpo's num_updates is 0; use at least 1"),
        ({"window": "moving"}, "window is 'moving'; use one of fixed, random, sliding"),
        ({"kl_form": "other"}, "kl_form is 'other'; use one of exact, flow_grpo"),
        ({"window_every": 0}, "window_every is 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        GRPO(**settings)  # type: ignore[arg-type]


def test_updates_that_do_not_divide_and_steps_without_noise_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"192 pairs, which do not divide; use 6 or 8"):
        DDPO(num_updates=7).check(TrainConfig())
    with pytest.raises(
        ConfigError, match=r"num_updates is 200 but an iteration has 192 \(image, step\) pairs; use 1 to 192"
    ):
        DDPO(num_updates=200).check(TrainConfig())
    with pytest.raises(ConfigError, match=r"eta is 0.0; ddpo needs noise.*use 1.0"):
        DDPO().check(TrainConfig(sampling=SamplingConfig(eta=0.0)))
