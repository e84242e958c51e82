from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import ConfigError
from pamela_rl.steering.rewriter_reward import RewriteReward
from pamela_rl.steering.settings import RewriteRewardSettings
from pamela_rl.types import RewardOutput, Verdict

SETTINGS = RewriteRewardSettings(faithfulness_weight=0.5, std_weight=0.5, unreadable=0.5, seed=3)


class Easel:
    """Draws pictures whose brightness is the length of the prompt, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int]] = []

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        self.requests += list(zip(prompts, seeds, strict=True))
        return torch.stack([torch.full((3, 2, 2), len(prompt) / 100) for prompt in prompts])


def likes_long(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """Bright pictures please; Bo is twice as easily pleased, and the reward is unsure by the length of the request."""
    factor = torch.tensor([2.0 if user == "bo" else 1.0 for user in user_ids])
    return RewardOutput(100 * factor * images.mean(dim=(1, 2, 3)), torch.tensor([float(len(p)) for p in prompts]))


def shows_boats(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(torch.tensor([1.0 if prompt == "a boat" else 0.25 for prompt in prompts]))


def test_worth_is_cautious_reward_minus_what_is_lost_of_the_original_request() -> None:
    reward_function = RewriteReward(Easel(), likes_long, shows_boats, SETTINGS)
    values = reward_function(["a boat at night", "a tree at noon"], request=["a boat", "a tree"], user_id=["ada", "bo"])
    assert values == pytest.approx([15 - 0.5 * 6, 2 * 14 - 0.5 * 6 - 2 * 0.75], rel=1e-5)


@pytest.mark.parametrize("scale", [RatingScale(0, 1), RatingScale(0, 100)])
def test_penalties_follow_the_scale_of_the_ratings(scale: RatingScale) -> None:
    reward_function = RewriteReward(Easel(), likes_long, shows_boats, SETTINGS, scale)
    values = reward_function(
        ["a boat at night", "a tree at noon", ""], ["a boat", "a tree", "a tree"], ["ada", "bo", "bo"]
    )
    penalty = 0.75 * 0.5 * scale.high
    assert values == pytest.approx([15 - 0.5 * 6, 2 * 14 - 0.5 * 6 - penalty, -0.5 * scale.high], rel=1e-5)


def test_chats_are_judged_as_texts_are() -> None:
    chat = [{"role": "assistant", "content": "a boat at night"}]
    both = RewriteReward(Easel(), likes_long, None, SETTINGS)([chat, "a boat at night"], ["a boat"] * 2, ["ada"] * 2)
    assert both[0] == both[1]


def test_a_group_shares_its_noise_and_no_two_steps_do() -> None:
    easel = Easel()
    reward_function = RewriteReward(easel, likes_long, None, SETTINGS)
    for _ in range(2):
        reward_function(["p", "q", "r", "s"], ["a boat", "a boat", "a boat", "a tree"], ["ada", "ada", "bo", "ada"])
    seeds = [seed for _, seed in easel.requests]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 6


def test_unreadable_answers_are_worth_little_and_draw_nothing() -> None:
    easel = Easel()
    reward_function = RewriteReward(easel, likes_long, shows_boats, SETTINGS)
    values = reward_function(["", "a boat", " ,"], ["a boat"] * 3, ["ada"] * 3)
    assert values[0] == values[2] == -1.0 < values[1]
    assert reward_function.images_spent == len(easel.requests) == 1
    assert reward_function([""], ["a boat"], ["ada"]) == [-1.0]


def test_a_reward_that_is_no_number_counts_as_unreadable() -> None:
    def broken(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        return RewardOutput(torch.tensor([math.nan, math.inf, 3.0]))

    assert RewriteReward(Easel(), broken, None, SETTINGS)(["a"] * 3, ["a"] * 3, ["ada"] * 3) == [-1.0, -1.0, 3.0]


def test_parts_are_told_to_the_log() -> None:
    metrics: dict[str, float] = {}
    reward_function = RewriteReward(Easel(), likes_long, shows_boats, SETTINGS)
    reward_function(["a boat at night", ""], ["a tree"] * 2, ["ada"] * 2, log_metric=metrics.__setitem__)
    assert metrics == pytest.approx({"unreadable": 0.5, "reward_mean": 15.0, "faithfulness": 0.25}, rel=1e-5)


def test_nothing_is_trained_against_a_judge() -> None:
    def judge(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        return Verdict(torch.ones(len(images)))

    with pytest.raises(ConfigError, match="the reward to train against is a judge"):
        RewriteReward(Easel(), judge, None)(["a boat"], ["a boat"], ["ada"])  # type: ignore[arg-type]
