"""How well predictions agree with people, one person at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
METRICS = ("srocc", "plcc", "pairwise")


def plcc(predicted: Array, given: Array) -> float:
    """Return Pearson's correlation; NaN where either side is constant."""
    a, b = predicted - predicted.mean(), given - given.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 1e-12 else float("nan")


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
    """
    rows = []
    for user in np.unique(users):
        mine = users == user
        if mine.sum() >= min_ratings:
            p, g = predicted[mine], given[mine]
            rows.append((srocc(p, g), plcc(p, g), pairwise_accuracy(p, g)))
    table = np.array(rows, dtype=np.float64).reshape(-1, len(METRICS))
    table = table[np.isfinite(table).all(axis=1)]
    intervals = [_interval(table[:, column], seed) for column in range(len(METRICS))]
    return Agreement(name, len(table), intervals[0], intervals[1], intervals[2])


def _interval(values: Array, seed: int, draws: int = 1000) -> tuple[float, float, float]:
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def format_table(rows: Sequence[Agreement]) -> str:
    """Lay out agreements as text, one model a line."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  people  {'SROCC':^21}  {'PLCC':^21}  {'pairwise':^21}"]
    for row in rows:
        cells = [f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in (row.srocc, row.plcc, row.pairwise)]
        lines.append(f"{row.name:{width}}  {row.num_users:6d}  " + "  ".join(f"{cell:21}" for cell in cells))
    return "\n".join(lines)
