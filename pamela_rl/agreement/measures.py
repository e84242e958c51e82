"""Measures of agreement between predictions and ratings, and their intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from pamela_rl.intervals import mean_interval

Array = NDArray[np.float64]
Score = tuple[float, float, float]  # estimate, low and high end of its 95 % interval
NO_SCORE: Score = (float("nan"), float("nan"), float("nan"))
NUM_DRAWS = 1000  # of a bootstrap


def plcc(predicted: Array, actual: Array) -> float:
    """Return Pearson's correlation; NaN if either side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(actual) == 0:
        return float("nan")
    a, b = predicted - predicted.mean(), actual - actual.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def srocc(predicted: Array, actual: Array) -> float:
    """Return Spearman's rank correlation with average ranks for ties; NaN if either side is constant."""
    return plcc(rankdata(predicted), rankdata(actual))


def pairwise_accuracy(predicted: Array, actual: Array) -> float:
    """Return the share of pairs in the right order.

    Pairs with equal ratings are left out; a pair with equal predictions counts one half. NaN without any pair. All
    pairs are counted, through Kendall's tau in O(n log n).
    """
    num_untied = _pairs(len(actual)) - _tied_pairs(actual)
    if num_untied == 0 or np.ptp(predicted) == 0:
        return 0.5 if num_untied else float("nan")
    num_untied_predicted = _pairs(len(actual)) - _tied_pairs(predicted)
    # tau-b is (right - wrong) / sqrt(num_untied * num_untied_predicted)
    scale: float = (float(num_untied) * float(num_untied_predicted)) ** 0.5
    surplus = round(float(kendalltau(predicted, actual).statistic) * scale)
    return 0.5 + surplus / (2 * num_untied)


def mae(predicted: Array, actual: Array) -> float:
    """Return the mean absolute error, in the units of the ratings."""
    return float(np.abs(predicted - actual).mean())


def rows_by_group(labels: NDArray[Any]) -> list[NDArray[np.intp]]:
    """Return the rows of each distinct label, in the order of the sorted labels."""
    if not len(labels):
        return []
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.split(order, starts[1:])


def mean_with_interval(values: Array) -> Score:
    """Return the mean over users and its 95 % interval by Student's t; NaN ends for one value, NaN without values."""
    interval = mean_interval(values)
    low, high = (float("nan") if end is None else end for end in (interval.low, interval.high))
    return interval.estimate, low, high


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], count: int, seed: int, num_draws: int = NUM_DRAWS
) -> Score:
    """Return a statistic and its 95 % percentile bootstrap interval over rows.

    Args:
        statistic: Maps row numbers to the statistic; NaN if it does not exist. Such draws are left out.
        count: Number of rows.
        seed: Of the draws. The same seed and count draw the same rows for every statistic.
        num_draws: Number of bootstrap samples.
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
