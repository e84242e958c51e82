"""Agreement of predictions with each user's ratings, averaged over users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pamela_rl.agreement.calibration import LEVELS, coverage
from pamela_rl.agreement.measures import (
    NUM_DRAWS,
    Array,
    Score,
    mae,
    mean_with_interval,
    pairwise_accuracy,
    plcc,
    rows_by_group,
    srocc,
)
from pamela_rl.agreement.tables import align_columns, estimate, percentages, with_interval, without_nan
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError

LEGEND = """SROCC, PLCC: rank and linear correlation of a person's ratings with the predictions; pairwise: share of pairs of
pictures in the right order; MAE: mean absolute error in rating points; within: share of ratings inside the predicted
intervals, which should be 50, 80 and 95 %. In brackets: 95 % intervals over people, over images for one person."""
WITHIN = f"within {'/'.join(f'{100 * level:.0f}' for level in LEVELS)} %"  # heading: share of ratings in each interval


@dataclass(frozen=True)
class Agreement:
    """Means over users with 95 % intervals: estimate, low, high.

    Intervals are over users, by Student's t; of one user alone they are over that user's ratings, by bootstrap.

    Attributes:
        name: Of the model.
        num_users: Number of users with enough ratings.
        srocc: Rank correlation of a user's ratings with the predictions for that user.
        plcc: Pearson's correlation of the same.
        pairwise: Share of a user's pairs in the right order; pairs with equal ratings are left out, pairs with equal
            predictions count one half.
        mae: Mean absolute error in rating points; meaningless for models that predict in other units.
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
        """Return plain lists and numbers, with None for NaN."""
        return dict(without_nan(asdict(self)))


def agreement(
    name: str,
    predicted: Array,
    actual: Array,
    users: NDArray[Any],
    min_ratings: int = 5,
    seed: int = 0,
    std: Array | None = None,
    scale: RatingScale | None = None,
) -> Agreement:
    """Measure a model user by user.

    Ratings of different users are not pooled, because a model that only knows each user's mean rating would then
    correlate with them.

    Users who gave every picture the same rating are left out. Users with constant predictions count with correlations
    of 0, so that every model is measured on the same users.

    Args:
        name: Of the model, for tables.
        predicted: Prediction for each rating, ``(n,)``.
        actual: The ratings, ``(n,)``. Measure seen and unseen users, or pictures, in separate calls.
        users: User of each rating, ``(n,)``.
        min_ratings: Users with fewer ratings are left out.
        seed: Of the bootstrap.
        std: Standard deviation of single ratings around ``predicted``, rating points, ``(n,)``; None leaves out the
            coverage.
        scale: The range of ratings; needed with ``std``.

    Raises:
        DataError: A prediction is not a finite number, a std not a positive one, or there is a std but no scale.
    """
    check_finite(name, predicted)
    covered = _covered(name, predicted, actual, std, scale)
    measured = [rows for rows in rows_by_group(users) if len(rows) >= min_ratings and np.ptp(actual[rows]) > 0]

    def of_user(rows: NDArray[np.intp]) -> Array:
        p, g = predicted[rows], actual[rows]
        values = (srocc(p, g), plcc(p, g), pairwise_accuracy(p, g), mae(p, g), *covered[rows].mean(axis=0))
        return np.nan_to_num(np.array(values, dtype=np.float64), nan=0.0)

    if len(measured) == 1:
        scores = _over_ratings(of_user, measured[0], seed)
    else:
        table = np.array([of_user(rows) for rows in measured]).reshape(-1, 4 + covered.shape[1])
        scores = [mean_with_interval(column) for column in table.T]
    within = {f"{100 * level:.0f}": score for level, score in zip(LEVELS, scores[4:])}
    return Agreement(name, len(measured), scores[0], scores[1], scores[2], scores[3], within or None)


def _over_ratings(of_user: Callable[[NDArray[np.intp]], Array], rows: NDArray[np.intp], seed: int) -> list[Score]:
    """Measure one user, with percentile bootstrap intervals over the ratings."""
    generator = np.random.default_rng(seed)
    draws = np.array([of_user(generator.choice(rows, len(rows))) for _ in range(NUM_DRAWS // 2)])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return [(float(m), float(a), float(b)) for m, a, b in zip(of_user(rows), low, high)]


def check_finite(name: str, predicted: Array) -> None:
    """Check that all predictions are finite.

    Raises:
        DataError: Names the model and counts them.
    """
    if not np.isfinite(predicted).all():
        bad = int((~np.isfinite(predicted)).sum())
        raise DataError(f"{bad} of {len(predicted)} predictions of {name!r} are not finite; look at the model.")


def _covered(name: str, predicted: Array, actual: Array, std: Array | None, scale: RatingScale | None) -> Array:
    if std is None:
        return np.empty((len(actual), 0))
    if scale is None:
        raise DataError(f"there is a std of {name!r} but no scale; give the scale of the ratings, e.g. RatingScale().")
    return coverage(predicted, std, actual, scale)


def mismatched(users: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Assign another user to every user: the control that shows how much of a score is personal.

    Args:
        users: User of each rating, ``(n,)``.
        seed: Of the random cyclic permutation of the users.

    Returns:
        For each rating, the other user whose prediction to use, ``(n,)``.

    Raises:
        DataError: There is only one user.
    """
    unique, user_rows = np.unique(users, return_inverse=True)
    if len(unique) < 2:
        raise DataError("a mismatched control needs at least two people; there is one.")
    permutation = np.random.default_rng(seed).permutation(len(unique))
    other_user = np.empty_like(permutation)
    other_user[permutation] = np.roll(permutation, 1)
    return unique[other_user[user_rows]]


def noise_ceiling(
    expected: Array, actual: Array, users: NDArray[np.int64], min_ratings: int = 5, seed: int = 0
) -> Agreement:
    """Measure the true expected ratings as if a model had predicted them: the highest expected agreement.

    The true expectation of real users is not known; see ``ceiling.implied_ceiling``.

    Args:
        expected: The user's true expected rating of each picture, ``(n,)``.
        actual: The ratings, ``(n,)``.
        users: User of each rating, ``(n,)``.
        min_ratings: Users with fewer ratings are left out.
        seed: Of the bootstrap.
    """
    return agreement("noise ceiling", expected, actual, users, min_ratings, seed)


def format_table(rows: Sequence[Agreement]) -> str:
    """Format agreements as a text table, one model per line, at most 120 characters wide.

    Correlations and accuracies have intervals; errors and coverages are estimates only.
    """
    cells = []
    for row in rows:
        text = {"SROCC": with_interval(row.srocc), "PLCC": with_interval(row.plcc)}
        text |= {"pairwise": with_interval(row.pairwise), "MAE": estimate(row.mae)}
        text[WITHIN] = percentages(list((row.coverage or {}).values()))
        cells.append((row.name, row.num_users, text))
    return align_columns("people", cells)
