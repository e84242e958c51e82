from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pamela_rl.evaluation.compare import (
    Arm,
    UserComparison,
    choose_primary_score,
    compare_user,
    summarize,
    wins,
)
from pamela_rl.types import RewardOutput, Unit


def over_prompts(boat: float, tree: float, is_share: bool = False) -> dict[str, float]:
    """One person's mean over two prompts: Student's t with one degree of freedom, cut at 0 and 1 for a share."""
    mean, margin = (boat + tree) / 2, 12.706204736 * abs(boat - tree) / 2
    low, high = mean - margin, mean + margin
    ends = {"low": max(0.0, low), "high": min(1.0, high)} if is_share else {"low": low, "high": high}
    return pytest.approx({"estimate": mean, **ends}, abs=1e-6)


def test_wins_count_a_tie_as_one_half() -> None:
    assert wins(np.array([3.0, 1, 2]), np.array([1.0, 3, 2])).tolist() == [1.0, 0.0, 0.5]


def test_wins_of_two_sides_add_up_to_one() -> None:
    numbers = np.random.default_rng(0)
    first, second = numbers.integers(0, 4, 50).astype(float), numbers.integers(0, 4, 50).astype(float)
    np.testing.assert_allclose(wins(first, second) + wins(second, first), 1.0)


def test_a_summary_is_what_paper_and_pencil_give(by_hand: UserComparison) -> None:
    summary = summarize([by_hand])
    own = summary["users"]["ada"]["own"]
    assert summary["primary_score"] == "true_rating"
    assert own["true_rating"] == over_prompts(2.5, 4.0)
    assert own["gain"]["true_rating"] == over_prompts(1.0, 0.5)
    assert own["win_over_base"] == over_prompts(1.0, 0.75, is_share=True)
    assert own["win_over_other"] == over_prompts(1.0, 0.25, is_share=True)
    assert own["faithfulness"] == over_prompts(1.0, 0.0, is_share=True)
    assert own["faithfulness_share"] == pytest.approx(0.5 / 0.75)
    assert own["diversity"] == pytest.approx((0.2 + 0.0) / 2, abs=1e-6)
    assert own["distance_from_base"] == pytest.approx(0.2, abs=1e-6)
    assert own["images_spent"] == 1200
    assert summary["overall"] == summary["users"]["ada"] | {}


def test_the_base_gains_nothing_over_itself_and_only_the_own_arm_is_held_against_another(
    by_hand: UserComparison,
) -> None:
    rows = summarize([by_hand])["users"]["ada"]
    assert rows["base"]["gain"]["true_rating"] == {"estimate": 0, "low": 0, "high": 0}
    assert rows["base"]["win_over_base"] == {"estimate": 0.5, "low": None, "high": None}
    assert rows["base"]["distance_from_base"] == 0
    assert [arm for arm, row in rows.items() if "win_over_other" in row] == ["own"]
    assert rows["other"]["faithfulness_share"] == 0


def test_everyone_together_is_the_mean_over_people(by_hand: UserComparison) -> None:
    scores = {arm: {name: values + 1 for name, values in row.items()} for arm, row in by_hand.scores.items()}
    scores["own"] = by_hand.scores["own"]
    second = replace(by_hand, user_id="ben", scores=scores)
    overall = summarize([by_hand, second])["overall"]["own"]
    assert overall["gain"]["true_rating"]["estimate"] == pytest.approx((0.75 - 0.25) / 2)
    assert overall["win_over_base"]["estimate"] == pytest.approx((0.875 + 0.375) / 2)
    assert overall["images_spent"] == 2400
    assert overall["faithfulness_share"] == pytest.approx(0.5 / ((0.75 + 1.75) / 2))


def test_without_a_faithful_base_there_is_no_share_and_without_pairs_no_diversity(by_hand: UserComparison) -> None:
    blind = {arm: {**row, "faithfulness": np.zeros(4)} for arm, row in by_hand.scores.items()}
    single = replace(by_hand, prompts=("a", "b", "c", "d"), scores=blind)
    summary = summarize([single])
    assert summary["users"]["ada"]["own"]["faithfulness_share"] is None
    assert summary["users"]["ada"]["own"]["diversity"] is None
    json.dumps(summary, allow_nan=False)


def test_without_another_persons_arm_nothing_is_said_of_it(by_hand: UserComparison) -> None:
    for part in (by_hand.images, by_hand.scores, by_hand.images_spent):
        del part["other"]
    assert "win_over_other" not in summarize([by_hand])["overall"]["own"]


@pytest.mark.parametrize("further", ["sft", "dpo"])
def test_the_own_arm_is_held_against_runs_on_the_rated_images(by_hand: UserComparison, further: str) -> None:
    for part in (by_hand.images, by_hand.scores, by_hand.images_spent):
        part[further] = part.pop("other")
    (pair,) = summarize([by_hand])["pairs"]
    assert (pair["first"], pair["second"]) == ("own", further)
    assert pair["gain"]["true_rating"]["estimate"] == pytest.approx((1 + 2 + 0 - 1) / 4)


@pytest.mark.parametrize(
    ("scorers", "decides"),
    [
        (["reward", "judge", "true_rating"], "true_rating"),
        (["reward", "judge", "faithfulness"], "judge"),
        (["faithfulness", "reward"], "reward"),
    ],
)
def test_the_score_nearest_to_the_person_decides(by_hand: UserComparison, scorers: list[str], decides: str) -> None:
    row = {name: np.arange(4.0) for name in scorers}
    assert choose_primary_score(replace(by_hand, scores={"base": row, "own": row})) == decides


def test_all_arms_are_drawn_on_the_same_grid_of_noise_that_never_repeats_and_scored_as_the_users() -> None:
    requests: list[tuple[tuple[str, ...], tuple[int, ...]]] = []

    def generate(prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        requests.append((tuple(prompts), tuple(seeds)))
        return torch.tensor(seeds)[:, None, None, None].expand(-1, 3, 4, 4) / 10_000

    def brightness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        assert list(user_ids) == ["ada"] * 4
        longer = torch.tensor([float(len(prompt)) for prompt in prompts])
        return RewardOutput(images.mean(dim=(1, 2, 3)) + longer)

    arms = [Arm("base", generate), Arm("own", lambda p, s: generate(p, s) + 0.5, images_spent=96)]
    result = compare_user("ada", arms, ["a", "bb"], 2, {"reward": brightness})
    assert requests == [(("a", "a", "bb", "bb"), (10_000, 10_001, 10_002, 10_003))] * 2
    assert (result.prompts, result.seeds) == requests[0]
    assert result.scores["base"]["reward"].tolist() == pytest.approx([2.0, 2.0001, 3.0002, 3.0003], abs=1e-5)
    assert result.scores["own"]["reward"].tolist() == pytest.approx([2.5, 2.5001, 3.5002, 3.5003], abs=1e-5)
    assert result.images_spent == {"base": 0, "own": 96}
    gain = summarize([result])["overall"]["own"]["gain"]["reward"]
    assert gain["estimate"] == pytest.approx(0.5, abs=1e-5)


def test_only_a_scorer_that_declares_shares_is_told_as_a_share(by_hand: UserComparison) -> None:
    class Share:
        unit = Unit.SHARE

        def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
            return RewardOutput(images.mean(dim=(1, 2, 3)))

    def cosine(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        return RewardOutput(25 - 6 * images.mean(dim=(1, 2, 3)))

    for scorer, share in ((Share(), 0.5), (cosine, None)):
        arms = [
            Arm(name, lambda p, s, grey=grey: torch.full((len(p), 3, 4, 4), grey))
            for name, grey in (("base", 0.5), ("own", 0.25))
        ]
        drawn = compare_user("ada", arms, ["a", "b"], 1, {"reward": cosine, "faithfulness": scorer})
        summary = summarize([drawn])
        assert summary["overall"]["own"]["faithfulness_share"] == share
        assert summary["units"] == {"reward": "score", "faithfulness": "score" if share is None else "share"}


def test_people_who_share_prompts_have_an_interval_over_both() -> None:
    numbers = np.random.default_rng(0)
    prompts = tuple(str(row) for row in range(16))
    effect = numbers.normal(size=16)  # of the prompts, the same for everybody
    people = [
        UserComparison(
            user, prompts, tuple(range(16)), {"base": torch.rand(16, 3, 2, 2), "own": torch.rand(16, 3, 2, 2)},
            {"base": {"reward": np.zeros(16)}, "own": {"reward": effect + numbers.normal(0, 0.1, 16)}}, {"base": 0, "own": 0},
        )
        for user in "abcdefgh"
    ]  # fmt: skip
    gain = summarize(people)["overall"]["own"]["gain"]["reward"]
    assert gain["high"] - gain["low"] == pytest.approx(2 * 2.131 * effect.std(ddof=1) / 4, rel=0.1)
