"""A user's own adapter at several strengths, on the prompts and noise of the arms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pamela_rl.diffusion.saved_adapters import INFO, STRENGTH, adapter_folder, recommended_strength
from pamela_rl.evaluation.compare import (
    BASE,
    OWN,
    UserComparison,
    choose_primary_score,
    mean_diversity,
    prompt_diversity,
    score_images,
    score_row,
)
from pamela_rl.types import ImageGenerator, Scorer

_ARMS = {0.0: BASE, 1.0: OWN}  # strengths at which arms are drawn anyway


@dataclass(frozen=True)
class UserStrengths:
    """One user's own adapter at every strength; images are not kept.

    Attributes:
        scores: The comparison of the user with one arm a strength, without images.
        diversity: By strength, between images of the same prompt; NaN with one image of each.
    """

    scores: UserComparison
    diversity: dict[float, float]


def strengths_to_draw(strengths: Sequence[float]) -> list[float]:
    """Return the strengths that no arm draws, each once and rising."""
    return sorted(set(strengths) - set(_ARMS))


def score_strengths(
    comparison: UserComparison, generators: Mapping[float, ImageGenerator], scorers: Mapping[str, Scorer]
) -> UserStrengths:
    """Draw a user's adapter at each strength on the prompts and seeds of their comparison, and score the images.

    Args:
        comparison: Of the user; strength 0 is its base arm, strength 1 its own arm.
        generators: By strength, what draws.
        scorers: By name, those of the comparison.
    """
    prompts = comparison.prompts
    scores = {arm: comparison.scores[arm] for arm in _ARMS.values()}
    spread = {at: prompt_diversity(comparison.images[arm], prompts) for at, arm in _ARMS.items()}
    for strength, generate in generators.items():
        images = generate(prompts, comparison.seeds)
        scores[_arm(strength)] = score_images(images, prompts, comparison.user_id, scorers)
        spread[strength] = prompt_diversity(images, prompts)
    return UserStrengths(replace(comparison, images={}, scores=scores), spread)


def recommended_strengths(run: Path, users: Sequence[str]) -> dict[str, float]:
    """Return the strength that each user's adapter recommends itself to be used at, of the users whose adapter says it."""
    folders = {user: adapter_folder(run, user) for user in users}
    return {
        user: recommended_strength(folder)
        for user, folder in folders.items()
        if STRENGTH in json.loads((folder / INFO).read_text(encoding="utf-8"))
    }


def summarize_strengths(drawn: Sequence[UserStrengths], recommended: Mapping[str, float]) -> dict[str, Any]:
    """Summarize strengths: rows from the weakest to the strongest, for each user and over all.

    Args:
        drawn: One per user, at the same strengths.
        recommended: By user, of those whose adapter recommends a strength.

    Returns:
        ``{"users": {user_id: [row]}, "overall": [row], "recommended": {user_id: strength}}``, ready for JSON. A row holds
        ``strength``, and what ``summarize`` says of an arm: every score's mean, the paired gain over the base, the win
        rate over the base, faithfulness as a share of the base's, diversity.
    """
    return {
        "users": {one.scores.user_id: _rows([one]) for one in drawn},
        "overall": _rows(drawn),
        "recommended": dict(recommended),
    }


def _rows(drawn: Sequence[UserStrengths]) -> list[dict[str, Any]]:
    comparisons = [one.scores for one in drawn]
    primary_score = choose_primary_score(comparisons[0])
    return [
        {
            "strength": strength,
            **score_row(comparisons, _arm(strength), primary_score),
            "diversity": mean_diversity([one.diversity[strength] for one in drawn]),
        }
        for strength in sorted(drawn[0].diversity)
    ]


def _arm(strength: float) -> str:
    return _ARMS.get(strength, f"own at {strength!r}")
