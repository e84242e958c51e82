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
    interval_of,
    summarize,
)
from pamela_rl.types import RewardOutput


def interval(estimate: float, low: float, high: float) -> dict[str, float]:
    return pytest.approx({"estimate": estimate, "low": low, "high": high}, abs=1e-9)


def test_a_summary_is_what_paper_and_pencil_give(by_hand: UserComparison) -> None:
    summary = summarize([by_hand])
    own = summary["users"]["ada"]["own"]
    assert summary["primary_score"] == "true_rating"
    # with one person, prompts are drawn again: a mean is that of one prompt, of the other, or of both
    assert own["true_rating"] == interval(3.25, 2.5, 4.0)
    assert own["gain"]["true_rating"] == interval(0.75, 0.5, 1.0)
    assert own["win_over_base"] == interval(0.875, 0.75, 1.0)
    assert own["win_over_other"] == interval(0.625, 0.25, 1.0)
    assert own["faithfulness"] == interval(0.5, 0.0, 1.0)
    assert own["faithfulness_share"] == pytest.approx(0.5 / 0.75)
    assert own["diversity"] == pytest.approx((0.2 + 0.0) / 2, abs=1e-6)
    assert own["distance_from_base"] == pytest.approx(0.2, abs=1e-6)
    assert own["images_spent"] == 1200
    assert summary["overall"] == summary["users"]["ada"] | {}


def test_the_base_gains_nothing_over_itself_and_only_the_own_arm_is_held_against_another(
    by_hand: UserComparison,
) -> None:
    rows = summarize([by_hand])["users"]["ada"]
    assert rows["base"]["gain"]["true_rating"] == interval(0, 0, 0)
    assert rows["base"]["win_over_base"] == interval(0.5, 0.5, 0.5)
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


def test_an_interval_is_read_back_from_its_row(by_hand: UserComparison) -> None:
    row = summarize([by_hand])["overall"]["own"]["gain"]["true_rating"]
    assert interval_of(row).to_json() == row


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
    assert list(gain.values()) == pytest.approx([0.5] * 3, abs=1e-5)
