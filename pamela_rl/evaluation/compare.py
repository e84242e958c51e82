"""What steering did: arms on the same held-out prompts and seeds, scored by everything that can score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.evaluation.statistics import Interval, bootstrap_mean, distance, diversity, wins
from pamela_rl.types import ImageGenerator, Scorer

BASE, OWN, OTHER = "base", "own", "other"
DECIDING = ("true_rating", "judge", "reward")  # the first that is there decides who won


@dataclass(frozen=True)
class Arm:
    """One way to make pictures for a person.

    Attributes:
        name: ``base``, ``own``, ``other``, or any other.
        generate: Prompts and seeds to pictures.
        images_spent: Pictures drawn to prepare this arm.
    """

    name: str
    generate: ImageGenerator
    images_spent: int = 0


@dataclass(frozen=True)
class UserComparison:
    """One person's arms on one grid of prompts and seeds.

    Attributes:
        user_id: Whose eyes judge.
        prompts: One a picture, ``(n,)``.
        seeds: One a picture, ``(n,)``.
        images: By arm, in [0, 1], ``(n, 3, h, w)``.
        scores: By arm and scorer, ``(n,)``.
        images_spent: By arm.
    """

    user_id: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: dict[str, Tensor]
    scores: dict[str, dict[str, NDArray[np.float64]]]
    images_spent: dict[str, int]


def compare_user(
    user_id: str, arms: Sequence[Arm], prompts: Sequence[str], seeds: Sequence[int], scorers: Mapping[str, Scorer]
) -> UserComparison:
    """Draw every arm on every (prompt, seed) and score the pictures as this person's.

    Args:
        user_id: The person.
        arms: What to compare.
        prompts: Different held-out prompts.
        seeds: For each prompt; the same for all arms.
        scorers: By name: ``reward``, ``judge``, ``faithfulness``, in the world ``true_rating``.
    """
    grid = [(prompt, seed) for prompt in prompts for seed in seeds]
    wanted, drawn = tuple(prompt for prompt, _ in grid), tuple(seed for _, seed in grid)
    images = {arm.name: arm.generate(wanted, drawn) for arm in arms}
    people = [user_id] * len(grid)
    scores = {
        arm: {name: scorer(pictures, wanted, people).mean.double().cpu().numpy() for name, scorer in scorers.items()}
        for arm, pictures in images.items()
    }
    return UserComparison(user_id, wanted, drawn, images, scores, {arm.name: arm.images_spent for arm in arms})


def deciding_score(comparison: UserComparison) -> str:
    """Name the score that says who won: the true rating where it is known, else the judge, else the reward."""
    known = next(iter(comparison.scores.values()))
    return next(name for name in DECIDING if name in known)


def summarize(comparisons: Sequence[UserComparison]) -> dict[str, Any]:
    """Reduce comparisons to rows: one an arm for each person, and one an arm over all people.

    Returns:
        ``{"decided_by", "users": {user_id: {arm: row}}, "overall": {arm: row}}``, ready for JSON. A row holds, where it
        applies: every score's mean with interval, the paired gain over the base, the win rate over the base, the own
        arm's win rate over the other's, faithfulness as a share of the base's, diversity, distance from the base,
        images spent.
    """
    decided_by = deciding_score(comparisons[0])
    users = {c.user_id: {arm: _row([c], arm, decided_by) for arm in c.images} for c in comparisons}
    overall = {arm: _row(comparisons, arm, decided_by) for arm in comparisons[0].images}
    return {"decided_by": decided_by, "users": users, "overall": overall}


def _row(comparisons: Sequence[UserComparison], arm: str, decided_by: str) -> dict[str, Any]:
    users = np.concatenate([np.full(len(c.prompts), row) for row, c in enumerate(comparisons)])
    prompts = np.concatenate([np.unique(c.prompts, return_inverse=True)[1] for c in comparisons])

    def all_of(which: str, name: str) -> NDArray[np.float64]:
        return np.concatenate([c.scores[which][name] for c in comparisons])

    def mean(values: NDArray[np.float64]) -> dict[str, float]:
        return bootstrap_mean(values, users, prompts).to_json()

    names = comparisons[0].scores[arm]
    row: dict[str, Any] = {name: mean(all_of(arm, name)) for name in names}
    row["gain"] = {name: mean(all_of(arm, name) - all_of(BASE, name)) for name in names}
    row["win_over_base"] = mean(wins(all_of(arm, decided_by), all_of(BASE, decided_by)))
    if arm == OWN and OTHER in comparisons[0].scores:
        row["win_over_other"] = mean(wins(all_of(OWN, decided_by), all_of(OTHER, decided_by)))
    if "faithfulness" in names:
        base = all_of(BASE, "faithfulness").mean()
        row["faithfulness_share"] = float(all_of(arm, "faithfulness").mean() / base) if base > 0 else None
    spread = np.mean([diversity(c.images[arm], np.unique(c.prompts, return_inverse=True)[1]) for c in comparisons])
    row["diversity"] = float(spread) if np.isfinite(spread) else None  # one seed a prompt has none; NaN is not JSON
    row["distance_from_base"] = float(np.mean([distance(c.images[arm], c.images[BASE]) for c in comparisons]))
    row["images_spent"] = sum(c.images_spent[arm] for c in comparisons)
    return row


def interval_of(row: Mapping[str, float]) -> Interval:
    """Read an interval back from a row."""
    return Interval(row["estimate"], row["low"], row["high"])
