"""How well predictions agree with people, one person at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pamela_rl.errors import DataError

Array = NDArray[np.float64]
METRICS = ("srocc", "plcc", "pairwise")


def plcc(predicted: Array, given: Array) -> float:
    """Return Pearson's correlation; NaN where either side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(given) == 0:
        return float("nan")
    a, b = predicted - predicted.mean(), given - given.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def srocc(predicted: Array, given: Array) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; NaN where either side is constant."""
    return plcc(rankdata(predicted), rankdata(given))


def pairwise_accuracy(predicted: Array, given: Array) -> float:
    """Return the share of pairs put in the right order.

    Pairs that the person rated equal are left out; a pair predicted equal counts one half. NaN without any pair.
    """
    first, second = np.triu_indices(len(given), k=1)
    wanted = np.sign(given[first] - given[second])
    got = np.sign(predicted[first] - predicted[second])[wanted != 0]
    wanted = wanted[wanted != 0]
    return float(np.where(got == 0, 0.5, got == wanted).mean()) if len(wanted) else float("nan")


@dataclass(frozen=True)
class Agreement:
    """Means over people with 95 % bootstrap intervals over people.

    Attributes:
        name: Of the model.
        num_users: People with enough ratings to count.
        srocc: Mean, low, high.
        plcc: Mean, low, high.
        pairwise: Mean, low, high.
    """

    name: str
    num_users: int
    srocc: tuple[float, float, float]
    plcc: tuple[float, float, float]
    pairwise: tuple[float, float, float]

    def to_json(self) -> dict[str, object]:
        """Return plain lists and numbers."""
        return asdict(self)


def agreement(
    name: str, predicted: Array, given: Array, users: NDArray[np.int64], min_ratings: int = 5, seed: int = 0
) -> Agreement:
    """Measure a model person by person.

    Args:
        name: Of the model, for tables.
        predicted: One a rating, ``(n,)``.
        given: The ratings, ``(n,)``.
        users: Who gave each, ``(n,)``.
        min_ratings: People with fewer ratings are left out.
        seed: Of the bootstrap.

    People who gave every picture the same rating are left out. Somebody for whom the model predicts one and the same
    number counts with correlations of 0, so that every model is measured on the same people.

    Raises:
        DataError: A prediction is not a finite number.
    """
    if not np.isfinite(predicted).all():
        bad = int((~np.isfinite(predicted)).sum())
        raise DataError(f"{bad} of {len(predicted)} predictions of {name!r} are not finite; look at the model.")
    rows = []
    for user in np.unique(users):
        mine = users == user
        p, g = predicted[mine], given[mine]
        if mine.sum() >= min_ratings and np.ptp(g) > 0:
            rows.append((srocc(p, g), plcc(p, g), pairwise_accuracy(p, g)))
    table = np.nan_to_num(np.array(rows, dtype=np.float64).reshape(-1, len(METRICS)), nan=0.0)
    intervals = [_interval(table[:, column], seed) for column in range(len(METRICS))]
    return Agreement(name, len(table), intervals[0], intervals[1], intervals[2])


def _interval(values: Array, seed: int, draws: int = 1000) -> tuple[float, float, float]:
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


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

    Args:
        expected: What each person would rate each picture on average, ``(n,)``.
        given: The ratings, ``(n,)``.
        users: Who gave each, ``(n,)``.
        min_ratings: People with fewer ratings are left out.
        seed: Of the bootstrap.
    """
    return agreement("noise ceiling", expected, given, users, min_ratings, seed)


def format_table(rows: Sequence[Agreement]) -> str:
    """Lay out agreements as text, one model a line."""
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"{'':{width}}  people  {'SROCC':^21}  {'PLCC':^21}  {'pairwise':^21}"]
    for row in rows:
        cells = [f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in (row.srocc, row.plcc, row.pairwise)]
        lines.append(f"{row.name:{width}}  {row.num_users:6d}  " + "  ".join(f"{cell:21}" for cell in cells))
    return "\n".join(lines)
