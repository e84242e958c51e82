from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pamela_rl.evaluation.compare import UserComparison, summarize
from pamela_rl.evaluation.strengths import (
    UserStrengths,
    recommended_strengths,
    score_strengths,
    strengths_to_draw,
    summarize_strengths,
)
from pamela_rl.types import RewardOutput, Scorer


def flat(*greys: float) -> Tensor:
    return torch.tensor(greys, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 4, 4).clone()


def grey(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(10 * images.mean(dim=(1, 2, 3)))


def bright(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput((images.mean(dim=(1, 2, 3)) > 0.25).float())


SCORERS: dict[str, Scorer] = {"true_rating": grey, "faithfulness": bright}


def at_half(comparison: UserComparison, *greys: float) -> UserStrengths:
    return score_strengths(comparison, {0.5: lambda prompts, seeds: flat(*greys)}, SCORERS)


def test_a_strength_is_what_paper_and_pencil_give(by_hand: UserComparison) -> None:
    found = summarize_strengths([at_half(by_hand, 0.1, 0.3, 0.3, 0.6)], {})
    weak = found["users"]["ada"][1]
    assert weak["strength"] == 0.5
    assert weak["true_rating"]["estimate"] == pytest.approx((1 + 3 + 3 + 6) / 4, abs=1e-5)
    gain = weak["gain"]["true_rating"]  # over the base's 1, 2, 3, 4: 0 and 1 with a boat, 0 and 2 with a tree
    assert gain["estimate"] == pytest.approx(0.75, abs=1e-5)
    assert gain["high"] == pytest.approx(0.75 + 12.706204736 * 0.5 / 2, abs=1e-4)
    assert weak["faithfulness_share"] == pytest.approx(1.0)  # three of four, as the base's
    assert weak["diversity"] == pytest.approx((0.2 + 0.3) / 2, abs=1e-6)


def test_strength_0_is_the_base_arm_and_1_the_own_arm(by_hand: UserComparison) -> None:
    people = [by_hand, replace(by_hand, user_id="ben", images={**by_hand.images, "own": flat(0, 1, 0, 1)})]
    arms = summarize(people)
    found = summarize_strengths([at_half(one, 0.1, 0.2, 0.3, 0.4) for one in people], {})
    for rows, expected in ((found["overall"], arms["overall"]), (found["users"]["ben"], arms["users"]["ben"])):
        assert [row["strength"] for row in rows] == [0, 0.5, 1]
        for row, arm in ((rows[0], "base"), (rows[2], "own")):
            same = {name: value for name, value in row.items() if name != "strength"}
            assert same == {name: expected[arm][name] for name in same}
            assert {"true_rating", "gain", "win_over_base", "faithfulness_share", "diversity"} <= set(same)


def test_all_users_together_are_the_mean_over_people(by_hand: UserComparison) -> None:
    two = [at_half(by_hand, 0, 0, 0, 0), at_half(replace(by_hand, user_id="ben"), 0.2, 0.4, 0.2, 0.6)]
    found = summarize_strengths(two, {})
    rows = [found["users"][user][1] for user in ("ada", "ben")]
    for value in ("true_rating", "faithfulness"):
        mean = np.mean([row["gain"][value]["estimate"] for row in rows])
        assert found["overall"][1]["gain"][value]["estimate"] == pytest.approx(mean)
    assert found["overall"][1]["diversity"] == pytest.approx((0 + (0.2 + 0.4) / 2) / 2, abs=1e-6)


def test_every_strength_is_drawn_on_the_prompts_and_noise_of_the_arms_and_scored_as_the_user(
    by_hand: UserComparison,
) -> None:
    asked: list[tuple[float, tuple[str, ...], tuple[int, ...]]] = []

    def generator(strength: float) -> object:
        def generate(prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
            asked.append((strength, tuple(prompts), tuple(seeds)))
            return torch.zeros(4, 3, 4, 4)

        return generate

    def scored_as_ada(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        assert list(user_ids) == ["ada"] * 4
        return grey(images, prompts, user_ids)

    strengths = (0.5, 1.5)
    score_strengths(by_hand, {at: generator(at) for at in strengths}, {**SCORERS, "true_rating": scored_as_ada})  # type: ignore[misc]
    assert asked == [(at, by_hand.prompts, by_hand.seeds) for at in strengths]


def test_strengths_that_arms_draw_anyway_are_not_drawn_again() -> None:
    assert strengths_to_draw([1.25, 0.5, 1, 0.5, 0, 0.25]) == [0.25, 0.5, 1.25]
    assert strengths_to_draw([1.0]) == []


def test_one_image_a_prompt_has_no_diversity_and_valid_json(by_hand: UserComparison) -> None:
    single = replace(by_hand, prompts=("a", "b", "c", "d"))
    found = summarize_strengths([at_half(single, 0, 0, 0, 0)], {"ada": 0.5})
    assert found["users"]["ada"][1]["diversity"] is None
    assert json.loads(json.dumps(found, allow_nan=False))["recommended"] == {"ada": 0.5}


def test_only_an_adapter_that_recommends_a_strength_has_one(tmp_path: Path) -> None:
    for user, facts in (("ada", {"recommended_strength": "0.75"}), ("ben", {})):
        folder = tmp_path / "adapters" / user
        folder.mkdir(parents=True)
        (folder / "adapter.json").write_text(json.dumps({"user_id": user, **facts}), encoding="utf-8")
    assert recommended_strengths(tmp_path, ["ada", "ben"]) == {"ada": 0.75}
