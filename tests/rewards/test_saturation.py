from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.saturation import saturated
from pamela_rl.rewards.taste.kernel_fit import fit_kernel_basis
from pamela_rl.types import RewardOutput

SCALE = RatingScale(1, 5)
NARROW = RatingScale(2.9, 3.2, step=0)
GRID = (np.arange(400_000) + 0.5) / 20_000 - 10  # stds from the mean


def integrated(mean: float, std: float) -> tuple[float, float]:
    """Mean and std of a normal rating cut off at the ends of the scale, summed over a fine grid."""
    weights, values = norm.pdf(GRID) / 20_000, np.clip(mean + std * GRID, SCALE.low, SCALE.high)
    expected = float(weights @ values)
    return expected, float(np.sqrt(weights @ (values - expected) ** 2))


@pytest.mark.parametrize("mean", [-1.0, 1.0, 1.4, 3.0, 4.6, 5.5, 8.0])
@pytest.mark.parametrize("std", [0.1, 0.5, 1.0, 4.0])
def test_mean_and_std_are_those_of_the_rating_cut_off_at_the_ends(mean: float, std: float) -> None:
    output = saturated(RewardOutput(torch.tensor([mean]).double(), torch.tensor([std]).double()), SCALE)
    assert output.std is not None
    expected, spread = integrated(mean, std)
    assert float(output.mean) == pytest.approx(expected, abs=1e-7)
    assert float(output.std) == pytest.approx(spread, abs=2e-6 * std)  # never quite 0


def test_a_prediction_at_an_end_falls_short_of_it_by_the_mean_of_half_a_normal() -> None:
    output = saturated(RewardOutput(torch.tensor([5.0, 1.0]), torch.tensor([0.5, 0.5])), SCALE)
    short = 0.5 / np.sqrt(2 * np.pi)
    assert output.mean.tolist() == pytest.approx([5 - short, 1 + short], abs=1e-6)
    assert output.std is not None
    assert output.std.tolist() == pytest.approx([0.5 * np.sqrt(0.5 - 1 / (2 * np.pi))] * 2, abs=1e-6)


def test_a_prediction_that_is_certain_is_cut_off_itself() -> None:
    output = saturated(RewardOutput(torch.tensor([-3.0, 1.0, 4.25, 7.0])), SCALE)
    assert output.mean.tolist() == [1.0, 1.0, 4.25, 5.0]
    assert output.std is None
    sure = saturated(RewardOutput(torch.tensor([-3.0, 4.25, 7.0]), torch.zeros(3)), SCALE)
    assert sure.mean.tolist() == pytest.approx([1.0, 4.25, 5.0], abs=1e-6)
    assert sure.std is not None
    assert float(sure.std.max()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_outside_the_scale_everybody_gives_the_end_itself(dtype: torch.dtype) -> None:
    far = torch.tensor([-1e4, -60.0, 60.0, 1e4], dtype=dtype, requires_grad=True)
    output = saturated(RewardOutput(far, torch.full((4,), 0.5, dtype=dtype)), SCALE)
    assert output.std is not None
    assert output.mean.dtype == output.std.dtype == dtype
    assert output.mean.tolist() == pytest.approx([1, 1, 5, 5], abs=1e-6)
    assert float(output.std.detach().max()) < 1e-3
    for part in (output.mean, output.std):
        (gradient,) = torch.autograd.grad(part.sum(), far, retain_graph=True)
        assert gradient.isfinite().all()
        assert float(gradient.abs().max()) < 1e-6


def test_a_higher_prediction_is_never_rated_lower_and_nothing_leaves_the_scale() -> None:
    means = torch.linspace(-10, 16, 2001, dtype=torch.float64)
    for std in (1e-3, 0.3, 1.0, 5.0):
        output = saturated(RewardOutput(means, torch.full_like(means, std)), SCALE)
        assert float(output.mean.diff().min()) > -1e-9
        assert float(output.mean.min()) >= 1 - 1e-9
        assert float(output.mean.max()) <= 5 + 1e-9
        assert output.std is not None
        assert float(output.std.max()) <= std + 1e-9


def test_the_gradient_is_the_probability_of_a_rating_inside_the_scale_and_vanishes_above() -> None:
    means = torch.tensor([2.0, 3.0, 4.5, 5.0, 6.0, 9.0], dtype=torch.float64, requires_grad=True)
    std = torch.full((6,), 0.7, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(saturated(RewardOutput(means, std), SCALE).mean.sum(), means)
    at = means.detach().numpy()
    inside = norm.cdf((5 - at) / 0.7) - norm.cdf((1 - at) / 0.7)
    assert gradient.tolist() == pytest.approx(inside.tolist(), abs=1e-9)
    assert float(gradient[-1]) < 1e-7


def test_the_less_certain_of_two_high_predictions_gains_less() -> None:
    output = saturated(RewardOutput(torch.tensor([4.8, 4.8]), torch.tensor([0.1, 1.5])), SCALE)
    assert float(output.mean[0]) > float(output.mean[1]) + 0.3


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def reward(images: Tensor) -> PersonalReward:
    """Knows how ada rated eight pictures."""
    ratings = torch.tensor([1.0, 5, 2, 4, 5, 1, 3, 3], dtype=torch.float64)
    train = RatingTensors(torch.zeros(8, dtype=torch.long), torch.arange(8), ratings)
    encoder = PixelEncoder()
    basis = fit_kernel_basis(RatingData(ImageFeatures(encoder.encode(images, [""] * 12)), train, ("ada",)))
    return PersonalReward(encoder, basis, FittedOn(frozenset({"ada"}), scale=NARROW, prompts=False))


def test_a_reward_fitted_to_ratings_stays_on_their_scale_and_one_of_choices_has_none(
    reward: PersonalReward, images: Tensor
) -> None:
    asked = (images, [""] * 12, ["ada"] * 12)
    raw, free = reward.model.predict(reward.features(images, [""] * 12), ["ada"] * 12), reward(*asked)
    assert torch.equal(free.mean, raw.mean)
    assert raw.std is not None
    assert free.std is not None
    assert torch.equal(free.std, raw.std)
    assert float(raw.mean.max()) > 3.2 > 2.9 > float(raw.mean.min())

    bounded = PersonalReward(reward.encoder, reward.model, replace(reward.fitted_on, bounded=True))(*asked)
    drawn = raw.mean + raw.std * torch.randn(200_000, 12, generator=torch.Generator().manual_seed(0))
    cut = drawn.clamp(2.9, 3.2)
    torch.testing.assert_close(bounded.mean, cut.mean(dim=0).to(bounded.mean), atol=2e-3, rtol=0)
    torch.testing.assert_close(bounded.std, cut.std(dim=0).to(bounded.mean), atol=2e-3, rtol=0)


def test_a_newcomer_and_a_saved_reward_stay_on_the_scale(
    reward: PersonalReward, images: Tensor, tmp_path: Path
) -> None:
    bounded = PersonalReward(reward.encoder, reward.model, replace(reward.fitted_on, bounded=True))
    bounded.save(tmp_path / "reward")
    again = PersonalReward.load(tmp_path / "reward", PixelEncoder())
    asked = (images, [""] * 12, ["ada"] * 12)
    torch.testing.assert_close(again(*asked).mean, bounded(*asked).mean, rtol=1e-12, atol=1e-12)
    known = bounded.introduce("ben", images[:4], [""] * 4, [20.0, 20, 20, -20])
    scores = known(images[:4], [""] * 4, ["ben"] * 4).mean
    assert float(scores.max()) <= 3.2
    assert float(scores.min()) >= 2.9


@pytest.mark.parametrize("bounded", [True, False])
def test_whether_predictions_end_comes_back_from_plain_json(bounded: bool) -> None:
    fitted_on = FittedOn(frozenset({"ada"}), frozenset({"x"}), 3, RatingScale(0, 10, 0.5), False, bounded)
    assert FittedOn.from_json(json.loads(json.dumps(fitted_on.to_json()))) == fitted_on
