from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.weighted import WeightedPart, WeightedReward
from pamela_rl.types import RewardOutput, Verdict

REFERENCE = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
PROMPTS, PEOPLE = [f"prompt {i}" for i in range(10)], [f"user {i}" for i in range(10)]


def brightness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(1000 + 50 * images.mean(dim=(1, 2, 3)))


def redness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(images[:, 0].mean(dim=(1, 2)), images[:, 1].mean(dim=(1, 2)))


def length(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """What the last letters of prompt and user say: each picture must come with its own."""
    assert [prompt[-1] for prompt in prompts] == [user[-1] for user in user_ids]
    assert len(images) == len(prompts)
    return RewardOutput(torch.tensor([float(prompt[-1]) for prompt in prompts]), torch.ones(len(images)))


def constant(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """The same for all but for what fp32 cannot tell."""
    return RewardOutput(0.1 + 1e-8 * torch.arange(len(images)))


def broken(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    scores = images[:, 2].mean(dim=(1, 2)).clone()
    scores[0] = math.nan
    return RewardOutput(scores)


@pytest.mark.parametrize("batch_size", [32, 10, 3, 1])
def test_every_part_has_mean_0_and_spread_1_on_the_reference(batch_size: int) -> None:
    rewards = {"bright": (brightness, 2.0), "red": (redness, -0.5), "last": (length, 1.0)}
    output = WeightedReward.calibrated(rewards, REFERENCE, PROMPTS, PEOPLE, batch_size)(REFERENCE, PROMPTS, PEOPLE)
    assert output.parts is not None
    assert list(output.parts) == ["bright", "red", "last"]
    for scores in output.parts.values():
        assert float(scores.mean()) == pytest.approx(0, abs=1e-3)
        assert float(scores.std(correction=0)) == pytest.approx(1, abs=1e-3)
    expected = 2 * output.parts["bright"] - 0.5 * output.parts["red"] + output.parts["last"]
    torch.testing.assert_close(output.mean, expected)


def test_the_scale_stays_that_of_the_reference_when_pictures_change() -> None:
    reward = WeightedReward.calibrated({"bright": (brightness, 2.0)}, REFERENCE, PROMPTS, PEOPLE)
    raw = brightness(REFERENCE, PROMPTS, PEOPLE).mean.double()
    for brighter in (0.0, 0.2, 0.4, 0.2):
        rgb_images = REFERENCE[:4] + brighter
        scores = reward(rgb_images, PROMPTS[:4], PEOPLE[:4]).mean
        expected = 2 * (1000 + 50 * rgb_images.mean(dim=(1, 2, 3)).double() - raw.mean()) / raw.std(correction=0)
        torch.testing.assert_close(scores.double(), expected, atol=1e-2, rtol=1e-3)


def test_uncertainties_add_as_those_of_independent_errors_and_certain_parts_add_none() -> None:
    parts = {
        "bright": WeightedPart(brightness, 1.0, 1000.0, 10.0),
        "red": WeightedPart(redness, -3.0, 0.5, 0.1),
        "last": WeightedPart(length, 2.0, 4.5, 4.0),
    }
    std = WeightedReward(parts)(REFERENCE, PROMPTS, PEOPLE).std
    assert std is not None
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(2, 200_000, 10, generator=generator)
    errors[0] *= REFERENCE[:, 1].mean(dim=(1, 2))
    simulated = (-3 * errors[0] / 0.1 + 2 * errors[1] / 4).std(dim=0)
    torch.testing.assert_close(std, simulated, rtol=0.02, atol=0)
    assert WeightedReward({"bright": parts["bright"]})(REFERENCE, PROMPTS, PEOPLE).std is None


def test_a_part_that_is_no_number_makes_the_sum_none_for_that_picture_alone() -> None:
    parts = {"bright": WeightedPart(brightness, 1.0, 1000.0, 10.0), "broken": WeightedPart(broken, 1.0, 0.5, 0.1)}
    output = WeightedReward(parts)(REFERENCE, PROMPTS, PEOPLE)
    assert output.mean.isnan().tolist() == [True] + [False] * 9
    assert output.parts is not None
    assert output.parts["bright"].isfinite().all()


def test_gradients_reach_the_pictures_through_every_part() -> None:
    rgb_images = REFERENCE.clone().requires_grad_()
    parts = {"bright": WeightedPart(brightness, 1.0, 1000.0, 10.0), "red": WeightedPart(redness, 1.0, 0.5, 0.1)}
    WeightedReward(parts)(rgb_images, PROMPTS, PEOPLE).mean.sum().backward()
    assert rgb_images.grad is not None
    per_channel = rgb_images.grad[0].mean(dim=(1, 2)) * 64  # of one picture
    torch.testing.assert_close(per_channel, torch.tensor([5 / 3 + 10, 5 / 3, 5 / 3]))


def test_a_reward_of_rewards_is_a_reward() -> None:
    inner = WeightedReward.calibrated({"bright": (brightness, 1.0), "red": (redness, 1.0)}, REFERENCE, PROMPTS, PEOPLE)
    outer = WeightedReward.calibrated({"both": (inner, 1.0)}, REFERENCE, PROMPTS, PEOPLE)
    output = outer(REFERENCE, PROMPTS, PEOPLE)
    assert output.parts is not None
    assert list(output.parts) == ["both"]


def test_a_reward_that_tells_no_reference_pictures_apart_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'flat' have a spread of .* about 0.1 on the reference pictures, so they cannot"
    ):
        WeightedReward.calibrated({"bright": (brightness, 1), "flat": (constant, 1)}, REFERENCE, PROMPTS, PEOPLE)
    with pytest.raises(ConfigError, match="spread of 0 about"):
        WeightedReward.calibrated({"bright": (brightness, 1.0)}, REFERENCE[:1], PROMPTS[:1], PEOPLE[:1])


def test_scores_of_the_reference_that_are_no_numbers_are_counted_and_refused() -> None:
    with pytest.raises(ConfigError, match=r"4 of the 10 scores of reward 'broken' .* not finite; look at the reward"):
        WeightedReward.calibrated({"broken": (broken, 1.0)}, REFERENCE, PROMPTS, PEOPLE, batch_size=3)


def judge(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
    return Verdict(images.mean(dim=(1, 2, 3)))


def test_a_judge_is_no_part_of_a_reward() -> None:
    with pytest.raises(ConfigError, match="the reward to train against is a judge; give the personal reward"):
        WeightedReward.calibrated({"judge": (judge, 1.0)}, REFERENCE, PROMPTS, PEOPLE)  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="the reward to train against is a judge"):
        WeightedReward({"judge": WeightedPart(judge, 1.0, 0.5, 0.1)})(REFERENCE, PROMPTS, PEOPLE)  # type: ignore[arg-type]


def test_an_empty_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are no reference pictures; give some"):
        WeightedReward.calibrated({"bright": (brightness, 1.0)}, REFERENCE[:0], [], [])


@pytest.mark.parametrize("weight", [0.0, math.nan, math.inf])
def test_a_weight_that_says_nothing_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=f"weight of reward 'bright' is {weight}; use a finite number other than 0"):
        WeightedReward({"bright": WeightedPart(brightness, weight, 0.0, 1.0)})


def test_parts_without_a_usable_name_or_scale_are_refused() -> None:
    with pytest.raises(ConfigError, match="given no parts; give at least one"):
        WeightedReward({})
    with pytest.raises(ConfigError, match="a reward is called 'my/reward'; metrics bear its name"):
        WeightedReward({"my/reward": WeightedPart(brightness, 1.0, 0.0, 1.0)})
    with pytest.raises(ConfigError, match="the mean of reward 'bright' is nan"):
        WeightedReward({"bright": WeightedPart(brightness, 1.0, math.nan, 1.0)})
    for std in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ConfigError, match="'bright' have a spread of"):
            WeightedReward({"bright": WeightedPart(brightness, 1.0, 0.0, std)})
