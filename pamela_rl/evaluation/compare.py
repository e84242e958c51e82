"""Compare arms on the same held-out prompts and seeds, by every available score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.diffusion.content_filters import FLAGGED
from pamela_rl.evaluation.distances import distance, diversity
from pamela_rl.intervals import mean_interval, share_interval
from pamela_rl.rewards.judge import Judge
from pamela_rl.types import ImageGenerator, Scorer, Unit, unit_of

BASE, OWN, OTHER = "base", "own", "other"
PRIMARY_SCORES = ("true_rating", "judge", "reward")  # the first available one decides which arm won
FIRST_SEED = 10_000  # of the compared images; seeds from here on are never used in training or search
COMPARED_PAIRS = (  # paired comparisons, where both arms are available
    (OWN, OTHER),
    (OWN, "prompt_search"),
    (OWN, "best_of_n"),
    (OWN, "noise_search"),
    (OWN, "rewriter"),
    ("own_and_search", OWN),
    ("prompt_search", "other_prompt_search"),
    ("rewriter", "untrained_rewriter"),
    ("early_stopped", "long"),
    (OWN, "sft"),
    (OWN, "dpo"),
)


@dataclass(frozen=True)
class Arm:
    """One way to generate images for a user.

    Attributes:
        name: ``base``, ``own``, ``other``, or any other.
        generate: Prompts and seeds to images.
        images_spent: Images drawn to prepare this arm.
        images_per_output: Images drawn for every image returned.
    """

    name: str
    generate: ImageGenerator
    images_spent: int = 0
    images_per_output: int = 1


@dataclass(frozen=True)
class UserComparison:
    """One user's arms on the same prompts and seeds.

    Attributes:
        user_id: The user the images are generated for and scored as.
        prompts: One per image, ``(n,)``.
        seeds: One per image, ``(n,)``.
        images: By arm, in [0, 1], ``(n, 3, h, w)``.
        scores: By arm and scorer, ``(n,)``.
        images_spent: By arm: images drawn to prepare it.
        images_per_output: By arm: images drawn for every image returned; 1 where absent.
        units: By scorer: what its numbers are; ``Unit.SCORE`` where absent.
        judge_basis: What the judge was fitted on, in words; empty where there is none.
    """

    user_id: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    images: dict[str, Tensor]
    scores: dict[str, dict[str, NDArray[np.float64]]]
    images_spent: dict[str, int]
    images_per_output: dict[str, int] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    judge_basis: str = ""


def compare_user(
    user_id: str, arms: Sequence[Arm], prompts: Sequence[str], seeds_per_prompt: int, scorers: Mapping[str, Scorer]
) -> UserComparison:
    """Draw every arm on the same prompts and noise, and score the images for this user.

    Every image of an arm has its own seed: noise determines so much of an image that a few seeds shared by all prompts
    would be a sample of a few.

    Args:
        user_id: The user.
        arms: The arms to compare.
        prompts: Held-out prompts, all different.
        seeds_per_prompt: Images per prompt; all arms and users share the seeds.
        scorers: By name: ``reward``, ``judge``, ``faithfulness``, in the world ``true_rating``.
    """
    repeated_prompts = tuple(prompt for prompt in prompts for _ in range(seeds_per_prompt))
    seeds = tuple(FIRST_SEED + row for row in range(len(repeated_prompts)))
    images = {arm.name: arm.generate(repeated_prompts, seeds) for arm in arms}
    scores = {arm: score_images(drawn, repeated_prompts, user_id, scorers) for arm, drawn in images.items()}
    images_spent = {arm.name: arm.images_spent for arm in arms}
    images_per_output = {arm.name: arm.images_per_output for arm in arms}
    units = {name: unit_of(scorer) for name, scorer in scorers.items()}
    judge = scorers.get("judge")
    return UserComparison(
        user_id, repeated_prompts, seeds, images, scores, images_spent, images_per_output, units,
        judge.basis if isinstance(judge, Judge) else "",
    )  # fmt: skip


@torch.no_grad()
def score_images(
    images: Tensor, prompts: Sequence[str], user_id: str, scorers: Mapping[str, Scorer], batch_size: int = 64
) -> dict[str, NDArray[np.float64]]:
    """Score images for one user, ``(n,)`` by scorer."""
    parts = [slice(first, first + batch_size) for first in range(0, len(images), batch_size)]
    return {
        name: torch.cat([scorer(images[p], prompts[p], [user_id] * len(images[p])).mean for p in parts])
        .cpu()
        .double()
        .numpy()
        for name, scorer in scorers.items()
    }


def choose_primary_score(comparison: UserComparison) -> str:
    """Return the name of the score that decides: the true rating where available, else the judge, else the reward."""
    scores = next(iter(comparison.scores.values()))
    return next(name for name in PRIMARY_SCORES if name in scores)


def summarize(comparisons: Sequence[UserComparison]) -> dict[str, Any]:
    """Summarize comparisons: one row per arm for each user, and one per arm over all users.

    Returns:
        ``{"primary_score", "judge_basis", "units", "users": {user_id: {arm: row}}, "overall": {arm: row}, "pairs": [row]}``, ready for
        JSON. A row of an arm holds, where available: every score's mean with interval, the paired gain over the base, the
        win rate over the base, the own arm's win rate over the other's, faithfulness as a share of the base's (None
        where faithfulness is no share), how many images a safety checker flags and of how many, diversity, distance from the
        base, images spent and images per output. A row of a pair, over all users, holds its ``first`` and ``second`` arm, the
        paired ``gain`` of the first over the second in every score, and its ``wins``. Intervals are over users and prompts; of one user over prompts; ``low`` and
        ``high`` are None where there is none.
    """
    primary_score = choose_primary_score(comparisons[0])
    users = {c.user_id: {arm: _row([c], arm, primary_score) for arm in c.images} for c in comparisons}
    arms = comparisons[0].images
    overall = {arm: _row(comparisons, arm, primary_score) for arm in arms}
    pairs = [_pair(comparisons, *pair, primary_score) for pair in COMPARED_PAIRS if set(pair) <= set(arms)]
    units = {
        name: str(comparisons[0].units.get(name, Unit.SCORE)) for name in next(iter(comparisons[0].scores.values()))
    }
    facts = {"primary_score": primary_score, "judge_basis": comparisons[0].judge_basis, "units": units}
    return {**facts, "users": users, "overall": overall, "pairs": pairs}


def _all_of(comparisons: Sequence[UserComparison], arm: str, name: str) -> NDArray[np.float64]:
    return np.concatenate([c.scores[arm][name] for c in comparisons])


def _mean(
    comparisons: Sequence[UserComparison], values: NDArray[np.float64], is_share: bool = False
) -> dict[str, float | None]:
    users = np.concatenate([np.full(len(c.prompts), row) for row, c in enumerate(comparisons)])
    prompts = np.concatenate([np.array(c.prompts) for c in comparisons])
    return (share_interval if is_share else mean_interval)(values, users, prompts).to_json()


def wins(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 where the first is higher, 0 where the second is, one half where they tie, ``(n,)``."""
    return np.where(first == second, 0.5, (first > second).astype(np.float64))


def _pair(comparisons: Sequence[UserComparison], first: str, second: str, primary_score: str) -> dict[str, Any]:
    paired = {
        name: (_all_of(comparisons, first, name), _all_of(comparisons, second, name))
        for name in comparisons[0].scores[first]
    }
    gain = {name: _mean(comparisons, ours - theirs) for name, (ours, theirs) in paired.items()}
    won = _mean(comparisons, wins(*paired[primary_score]), is_share=True)
    return {"first": first, "second": second, "gain": gain, "wins": won}


def score_row(comparisons: Sequence[UserComparison], arm: str, primary_score: str) -> dict[str, Any]:
    """Return the part of an arm's row that follows from its scores: see ``summarize``."""

    def all_of(which: str, name: str) -> NDArray[np.float64]:
        return _all_of(comparisons, which, name)

    names = comparisons[0].scores[arm]
    shares = {name for name in names if comparisons[0].units.get(name) == Unit.SHARE}
    row: dict[str, Any] = {name: _mean(comparisons, all_of(arm, name), name in shares) for name in names}
    row["gain"] = {name: _mean(comparisons, all_of(arm, name) - all_of(BASE, name)) for name in names}
    row["win_over_base"] = _won(comparisons, arm, BASE, primary_score)
    if "faithfulness" in names:
        base = all_of(BASE, "faithfulness").mean()
        has_share = "faithfulness" in shares and base > 0
        row["faithfulness_share"] = float(all_of(arm, "faithfulness").mean() / base) if has_share else None
    if FLAGGED in names:
        row["images_flagged"] = [int(all_of(arm, FLAGGED).sum()), len(all_of(arm, FLAGGED))]
    return row


def prompt_diversity(images: Tensor, prompts: Sequence[str]) -> float:
    """Return the mean RMS pixel difference between images of the same prompt, in [0, 1]; NaN with one image of each."""
    return diversity(images, np.unique(prompts, return_inverse=True)[1])


def mean_diversity(values: Sequence[float]) -> float | None:
    """Return the mean over users; None, which is valid JSON, where one is NaN."""
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else None


def _won(comparisons: Sequence[UserComparison], arm: str, over: str, primary_score: str) -> dict[str, float | None]:
    first, second = (_all_of(comparisons, which, primary_score) for which in (arm, over))
    return _mean(comparisons, wins(first, second), is_share=True)


def _row(comparisons: Sequence[UserComparison], arm: str, primary_score: str) -> dict[str, Any]:
    row = score_row(comparisons, arm, primary_score)
    if arm == OWN and OTHER in comparisons[0].scores:
        row["win_over_other"] = _won(comparisons, arm, OTHER, primary_score)
    row["diversity"] = mean_diversity([prompt_diversity(c.images[arm], c.prompts) for c in comparisons])
    row["distance_from_base"] = float(np.mean([distance(c.images[arm], c.images[BASE]) for c in comparisons]))
    row["images_spent"] = sum(c.images_spent[arm] for c in comparisons)
    row["images_per_output"] = comparisons[0].images_per_output.get(arm, 1)
    return row


def adapter_matrix(
    comparisons: Sequence[UserComparison], scorer: Scorer, arm: str = OWN
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Score every user's own images for every user: rows are scoring users, columns the adapters' users.

    Returns:
        By user and adapter, the mean gain over the base's images in that user's score, with a 95 % interval over
        prompts. The diagonal holds the gains of own adapters.
    """
    matrix: dict[str, dict[str, dict[str, float | None]]] = {}
    for row_user in comparisons:
        base = score_images(row_user.images[BASE], row_user.prompts, row_user.user_id, {"": scorer})[""]
        matrix[row_user.user_id] = {
            other.user_id: _mean(
                [row_user],
                score_images(other.images[arm], other.prompts, row_user.user_id, {"": scorer})[""] - base,
            )
            for other in comparisons
        }
    return matrix
