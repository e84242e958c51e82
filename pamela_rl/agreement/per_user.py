"""How well predictions agree with people, one person at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pamela_rl.agreement.calibration import LEVELS, coverage
from pamela_rl.agreement.measures import (
    Array,
    Score,
    bootstrap_mean,
    mae,
    pairwise_accuracy,
    places_by,
    plcc,
    srocc,
)
from pamela_rl.agreement.tables import estimate, lay_out, percentages, with_interval, without_nan
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError

LEGEND = """SROCC, PLCC: rank and linear correlation of what is predicted with what a person rated; pairwise: share of pairs of
pictures in the right order; MAE: mean error, in points; within: share of ratings inside the predicted intervals, which
should be 50, 80 and 95 %. In brackets: 95 % intervals."""
WITHIN = f"within {'/'.join(f'{100 * level:.0f}' for level in LEVELS)} %"  # heading: share of ratings in each interval


@dataclass(frozen=True)
class Agreement:
    """Means over people with 95 % bootstrap intervals over people: estimate, low, high.

    Attributes:
        name: Of the model.
        num_users: People with enough ratings to count.
        srocc: Of each person's ratings with the predictions for that person.
        plcc: The same, Pearson's.
        pairwise: Share of a person's pairs put in the right order; pairs that the person rated equal are left out,
            pairs predicted equal count one half.
        mae: Mean absolute error, in the units of the ratings; says nothing of a model that predicts in others.
        coverage: Share of ratings within the central interval of each level ("50", "80", "95"); None without stds.
    """

    name: str
    num_users: int
    srocc: Score
    plcc: Score
    pairwise: Score
    mae: Score
    coverage: Mapping[str, Score] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, None for what could not be measured."""
        return dict(without_nan(asdict(self)))


def agreement(
    name: str,
    predicted: Array,
    given: Array,
    users: NDArray[Any],
    min_ratings: int = 5,
    seed: int = 0,
    std: Array | None = None,
    scale: RatingScale | None = None,
) -> Agreement:
    """Measure a model person by person.

    Nothing is pooled: a model that knows nothing but who rates high and who low has no agreement with anybody, though
    its predictions correlate with the ratings of all people together.

    People who gave every picture the same rating are left out of every column. Somebody for whom the model predicts
    one and the same number counts with correlations of 0, so that every model is measured on the same people.

    Args:
        name: Of the model, for tables.
        predicted: One a rating, ``(n,)``.
        given: The ratings, ``(n,)``. Give seen and unseen people, or pictures, in calls of their own.
        users: Who gave each, ``(n,)``.
        min_ratings: People with fewer ratings are left out.
        seed: Of the bootstrap.
        std: Spread of single ratings around ``predicted``, rating units, ``(n,)``; None leaves out the coverage.
        scale: What ratings can be; needed with ``std``.

    Raises:
        DataError: A prediction is not a finite number, a std not a positive one, or there is a std but no scale.
    """
    finite(name, predicted)
    covered = _covered(name, predicted, given, std, scale)
    rows = []
    for mine in places_by(users):
        p, g = predicted[mine], given[mine]
        if len(mine) >= min_ratings and np.ptp(g) > 0:
            rows.append((srocc(p, g), plcc(p, g), pairwise_accuracy(p, g), mae(p, g), *covered[mine].mean(axis=0)))
    table = np.nan_to_num(np.array(rows, dtype=np.float64).reshape(-1, 4 + covered.shape[1]), nan=0.0)
    scores = [bootstrap_mean(column, seed) for column in table.T]
    within = {f"{100 * level:.0f}": score for level, score in zip(LEVELS, scores[4:])}
    return Agreement(name, len(table), scores[0], scores[1], scores[2], scores[3], within or None)


def finite(name: str, predicted: Array) -> None:
    """Refuse predictions that are not numbers.

    Raises:
        DataError: Names the model and counts them.
    """
    if not np.isfinite(predicted).all():
        bad = int((~np.isfinite(predicted)).sum())
        raise DataError(f"{bad} of {len(predicted)} predictions of {name!r} are not finite; look at the model.")


def _covered(name: str, predicted: Array, given: Array, std: Array | None, scale: RatingScale | None) -> Array:
    if std is None:
        return np.empty((len(given), 0))
    if scale is None:
        raise DataError(f"there is a std of {name!r} but no scale; give the scale of the ratings, e.g. RatingScale().")
    return coverage(predicted, std, given, scale)


def mismatched(users: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Give every person somebody else's taste: the control that shows how much of a score is personal.

    Args:
        users: Who gave each rating, ``(n,)``.
        seed: Of the random circle in which each person takes the next one's place.

    Returns:
        For each rating, the person whose prediction to use; one stranger a person and one person a stranger, ``(n,)``.

    Raises:
        DataError: There is only one person.
    """
    unique, places = np.unique(users, return_inverse=True)
    if len(unique) < 2:
        raise DataError("a mismatched control needs at least two people; there is one.")
    circle = np.random.default_rng(seed).permutation(len(unique))
    stranger = np.empty_like(circle)
    stranger[circle] = np.roll(circle, 1)
    return unique[stranger[places]]


def noise_ceiling(
    expected: Array, given: Array, users: NDArray[np.int64], min_ratings: int = 5, seed: int = 0
) -> Agreement:
    """Measure the true expected ratings as if they were a model's: no model does better but by luck.

    Of real people the expectation is not known; see ``ceiling.implied_ceiling``.

    Args:
        expected: What each person would rate each picture on average, ``(n,)``.
        given: The ratings, ``(n,)``.
        users: Who gave each, ``(n,)``.
        min_ratings: People with fewer ratings are left out.
        seed: Of the bootstrap.
    """
    return agreement("noise ceiling", expected, given, users, min_ratings, seed)


def format_table(rows: Sequence[Agreement]) -> str:
    """Lay out agreements as text, one model a line, at most 120 characters wide.

    Correlations and accuracies carry their intervals; of errors and coverages only the estimate finds room.
    """
    cells = []
    for row in rows:
        text = {"SROCC": with_interval(row.srocc), "PLCC": with_interval(row.plcc)}
        text |= {"pairwise": with_interval(row.pairwise), "MAE": estimate(row.mae)}
        text[WITHIN] = percentages(list((row.coverage or {}).values()))
        cells.append((row.name, row.num_users, text))
    return lay_out("people", cells)
