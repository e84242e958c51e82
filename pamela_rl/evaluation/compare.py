"""What steering did: arms on the same held-out prompts and seeds, scored by everything that can score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.evaluation.distances import distance, diversity
from pamela_rl.evaluation.statistics import Interval, bootstrap_mean, wins
from pamela_rl.types import ImageGenerator, Scorer

BASE, OWN, OTHER = "base", "own", "other"
DECIDING = ("true_rating", "judge", "reward")  # the first that is there decides who won
FIRST_SEED = 10_000  # of the pictures compared; nothing was trained or searched with those that follow
RIVALS = (  # held against each other pair by pair, where both are there
    (OWN, OTHER),
    (OWN, "prompt_search"),
    (OWN, "best_of_n"),
    (OWN, "noise_search"),
    (OWN, "rewriter"),
    ("own_and_search", OWN),
    ("prompt_search", "other_prompt_search"),
    ("rewriter", "untrained_rewriter"),
    ("early_stopped", "long"),
)


@dataclass(frozen=True)
class Arm:
    """One way to make pictures for a person.

    Attributes:
        name: ``base``, ``own``, ``other``, or any other.
        generate: Prompts and seeds to pictures.
        images_spent: Pictures drawn to prepare this arm.
        images_each: Pictures drawn for every picture that comes out.
    """

    name: str
    generate: ImageGenerator
    images_spent: int = 0
    images_each: int = 1


@dataclass(frozen=True)
class UserComparison:
    """One person's arms on one grid of prompts and seeds.

    Attributes:
        user_id: Whose eyes judge.
        prompts: One a picture, ``(n,)``.
        seeds: One a picture, ``(n,)``.
        images: By arm, in [0, 1], ``(n, 3, h, w)``.
        scores: By arm and scorer, ``(n,)``.
        images_spent: By arm, to prepare it.
        images_each: By arm, for every picture that comes out; 1 where it is not given.
    """

    user_id: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: dict[str, Tensor]
    scores: dict[str, dict[str, NDArray[np.float64]]]
    images_spent: dict[str, int]
    images_each: dict[str, int] = field(default_factory=dict)


def compare_user(
    user_id: str, arms: Sequence[Arm], prompts: Sequence[str], seeds_per_prompt: int, scorers: Mapping[str, Scorer]
) -> UserComparison:
    """Draw every arm on the same prompts and noise and score the pictures as this person's.

    No two pictures of an arm start from the same noise: it decides so much of a picture that a few seeds, shared by all
    prompts, would be a sample of a few.

    Args:
        user_id: The person.
        arms: What to compare.
        prompts: Different held-out prompts.
        seeds_per_prompt: Pictures of each prompt; their seeds are the same for all arms and people.
        scorers: By name: ``reward``, ``judge``, ``faithfulness``, in the world ``true_rating``.
    """
    wanted = tuple(prompt for prompt in prompts for _ in range(seeds_per_prompt))
    drawn = tuple(FIRST_SEED + row for row in range(len(wanted)))
    images = {arm.name: arm.generate(wanted, drawn) for arm in arms}
    scores = {arm: score_pictures(pictures, wanted, user_id, scorers) for arm, pictures in images.items()}
    spent, each = ({arm.name: getattr(arm, name) for arm in arms} for name in ("images_spent", "images_each"))
    return UserComparison(user_id, wanted, drawn, images, scores, spent, each)


@torch.no_grad()
def score_pictures(
    images: Tensor, prompts: Sequence[str], user_id: str, scorers: Mapping[str, Scorer], batch_size: int = 64
) -> dict[str, NDArray[np.float64]]:
    """Score pictures as one person's, ``(n,)`` by scorer."""
    parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    return {
        name: torch.cat([scorer(images[p], prompts[p], [user_id] * len(images[p])).mean for p in parts])
        .double()
        .cpu()
        .numpy()
        for name, scorer in scorers.items()
    }


def deciding_score(comparison: UserComparison) -> str:
    """Name the score that says who won: the true rating where it is known, else the judge, else the reward."""
    known = next(iter(comparison.scores.values()))
    return next(name for name in DECIDING if name in known)


def summarize(comparisons: Sequence[UserComparison]) -> dict[str, Any]:
    """Reduce comparisons to rows: one an arm for each person, and one an arm over all people.

    Returns:
        ``{"decided_by", "users": {user_id: {arm: row}}, "overall": {arm: row}, "pairs": [row]}``, ready for JSON. A row
        of an arm holds, where it applies: every score's mean with interval, the paired gain over the base, the win rate
        over the base, the own arm's win rate over the other's, faithfulness as a share of the base's, diversity,
        distance from the base, images spent and images a picture. A row of a pair, over all people, holds its ``first``
        and ``second`` arm, the paired ``gain`` of the first over the second in every score, and its ``wins``.
    """
    decided_by = deciding_score(comparisons[0])
    users = {c.user_id: {arm: _row([c], arm, decided_by) for arm in c.images} for c in comparisons}
    arms = comparisons[0].images
    overall = {arm: _row(comparisons, arm, decided_by) for arm in arms}
    pairs = [_pair(comparisons, *rivals, decided_by) for rivals in RIVALS if set(rivals) <= set(arms)]
    return {"decided_by": decided_by, "users": users, "overall": overall, "pairs": pairs}


def _all_of(comparisons: Sequence[UserComparison], arm: str, name: str) -> NDArray[np.float64]:
    return np.concatenate([c.scores[arm][name] for c in comparisons])


def _mean(comparisons: Sequence[UserComparison], values: NDArray[np.float64]) -> dict[str, float]:
    users = np.concatenate([np.full(len(c.prompts), row) for row, c in enumerate(comparisons)])
    prompts = np.concatenate([np.unique(c.prompts, return_inverse=True)[1] for c in comparisons])
    return bootstrap_mean(values, users, prompts).to_json()


def _pair(comparisons: Sequence[UserComparison], first: str, second: str, decided_by: str) -> dict[str, Any]:
    both = {
        name: (_all_of(comparisons, first, name), _all_of(comparisons, second, name))
        for name in comparisons[0].scores[first]
    }
    gain = {name: _mean(comparisons, ours - theirs) for name, (ours, theirs) in both.items()}
    return {"first": first, "second": second, "gain": gain, "wins": _mean(comparisons, wins(*both[decided_by]))}


def _row(comparisons: Sequence[UserComparison], arm: str, decided_by: str) -> dict[str, Any]:
    def all_of(which: str, name: str) -> NDArray[np.float64]:
        return _all_of(comparisons, which, name)

    def mean(values: NDArray[np.float64]) -> dict[str, float]:
        return _mean(comparisons, values)

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
    row["images_each"] = comparisons[0].images_each.get(arm, 1)
    return row


def interval_of(row: Mapping[str, float]) -> Interval:
    """Read an interval back from a row."""
    return Interval(row["estimate"], row["low"], row["high"])


def adapter_matrix(
    comparisons: Sequence[UserComparison], scorer: Scorer, arm: str = OWN
) -> dict[str, dict[str, dict[str, float]]]:
    """Score everybody's own pictures for everybody: people in rows, whose adapter in columns.

    Returns:
        For person and adapter, the mean gain over the base's pictures in that person's eyes, with a 95 % interval over
        prompts. The diagonal is what own adapters gain.
    """
    matrix: dict[str, dict[str, dict[str, float]]] = {}
    for person in comparisons:
        base = score_pictures(person.images[BASE], person.prompts, person.user_id, {"": scorer})[""]
        matrix[person.user_id] = {
            other.user_id: _mean(
                [person],
                score_pictures(other.images[arm], other.prompts, person.user_id, {"": scorer})[""] - base,
            )
            for other in comparisons
        }
    return matrix
