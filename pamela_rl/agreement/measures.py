"""How well one list of predictions agrees with one list of ratings, and intervals by bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

Array = NDArray[np.float64]
Score = tuple[float, float, float]  # estimate, low and high end of its 95 % interval
NO_SCORE: Score = (float("nan"), float("nan"), float("nan"))
NUM_DRAWS = 1000  # of a bootstrap


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

    Pairs that were rated equal are left out; a pair predicted equal counts one half. NaN without any pair. Every pair
    counts, none is sampled: they are counted by Kendall's tau, in n log n steps and memory for n numbers.
    """
    told_apart = _pairs(len(given)) - _tied_pairs(given)
    if told_apart == 0 or np.ptp(predicted) == 0:
        return 0.5 if told_apart else float("nan")
    also = _pairs(len(given)) - _tied_pairs(predicted)
    # tau-b is (right - wrong) / sqrt(told_apart * also)
    surplus = round(float(kendalltau(predicted, given).statistic) * (float(told_apart) * float(also)) ** 0.5)
    return 0.5 + surplus / (2 * told_apart)


def mae(predicted: Array, given: Array) -> float:
    """Return the mean absolute error, in the units of the ratings."""
    return float(np.abs(predicted - given).mean())


def places_by(labels: NDArray[Any]) -> list[NDArray[np.intp]]:
    """Return where each distinct label stands, in the order of the sorted labels."""
    if not len(labels):
        return []
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.split(order, starts[1:])


def bootstrap_mean(values: Array, seed: int) -> Score:
    """Return a mean with its 95 % percentile interval, the values drawn again with replacement; NaN of nothing."""
    if not len(values):
        return NO_SCORE
    chosen = np.random.default_rng(seed).integers(len(values), size=(NUM_DRAWS, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], count: int, seed: int, num_draws: int = NUM_DRAWS
) -> Score:
    """Return a statistic with its 95 % percentile interval, its rows drawn again with replacement.

    Args:
        statistic: Of some of the rows, from their numbers; NaN where it does not exist: such draws are left out.
        count: Of all rows.
        seed: Of the draws; the same seed and count draw the same rows, whatever the statistic.
        num_draws: How often the rows are drawn.
    """
    estimate = statistic(np.arange(count)) if count else float("nan")
    if np.isnan(estimate):
        return NO_SCORE
    generator = np.random.default_rng(seed)
    draws = [statistic(generator.integers(count, size=count)) for _ in range(num_draws)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return estimate, float(low), float(high)


def _pairs(count: int) -> int:
    return count * (count - 1) // 2


def _tied_pairs(values: Array) -> int:
    _, counts = np.unique(values, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())
