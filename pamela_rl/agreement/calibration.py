"""Calibration: coverage of predictive intervals and PIT histograms.

A rating on a scale with steps stands for the interval of values nearest to it, and the lowest and highest rating stand
for everything beyond. The probability integral transform (PIT) of a rating is therefore an interval too. This is the
non-randomised PIT of Czado, Gneiting & Held (Biometrics 65, 2009, 1254-1261): for a calibrated model it is uniform
on [0, 1], however coarse the scale.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from pamela_rl.agreement.measures import Array
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError

LEVELS = (0.5, 0.8, 0.95)


def pit(predicted: Array, std: Array, actual: Array, scale: RatingScale) -> tuple[Array, Array]:
    """Return the PIT interval of each rating, its lower and upper ends, ``(n,)`` each.

    Args:
        predicted: Expected ratings, ``(n,)``.
        std: Spread of single ratings around them, rating units, ``(n,)``; see ``measure.predictions``.
        actual: The ratings, ``(n,)``.
        scale: The range of ratings.

    Raises:
        DataError: A std is not a positive number.
    """
    bad = ~((std > 0) & np.isfinite(std))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(std)} predictive stds are not positive numbers, the first is {std[bad][0]}; "
            "give the spread of single ratings (measure.predictions), which is never 0."
        )
    half = scale.resolution / 2
    highest = scale.high  # rating on the scale
    if scale.resolution:
        highest = scale.low + scale.resolution * np.floor((scale.high - scale.low) / scale.resolution + 1e-9)
    low = np.where(actual <= scale.low, -np.inf, actual - half)
    high = np.where(actual >= highest, np.inf, actual + half)
    return ndtr((low - predicted) / std), ndtr((high - predicted) / std)


def coverage(
    predicted: Array, std: Array, actual: Array, scale: RatingScale, levels: tuple[float, ...] | Array = LEVELS
) -> Array:
    """Return the share of each rating's PIT interval in each central interval, ``(n, levels)``.

    For a calibrated model the mean over ratings is the level. Below it the model is overconfident, above it
    underconfident.

    Args:
        predicted: Expected ratings, ``(n,)``.
        std: Spread of single ratings around them, rating units, ``(n,)``.
        actual: The ratings, ``(n,)``.
        scale: The range of ratings.
        levels: Nominal coverage of each interval.

    Raises:
        DataError: A std is not a positive number.
    """
    low, high = pit(predicted, std, actual, scale)
    ends = np.asarray(levels, dtype=np.float64)
    return _below(low, high, (1 + ends) / 2) - _below(low, high, (1 - ends) / 2)


def pit_histogram(predicted: Array, std: Array, actual: Array, scale: RatingScale, num_bins: int = 10) -> Array:
    """Return the share of ratings in each bin of the PIT, ``(num_bins,)``; flat for a calibrated model.

    A U shape means overconfidence, a hump underconfidence, a slope bias.

    Raises:
        DataError: A std is not a positive number.
    """
    low, high = pit(predicted, std, actual, scale)
    below = _below(low, high, np.linspace(0, 1, num_bins + 1)).mean(axis=0)
    below[0], below[-1] = 0, 1  # a PIT of exactly 0 or 1 belongs to the outermost bin
    return np.asarray(np.diff(below))


def _below(low: Array, high: Array, points: Array) -> Array:
    """Return the share of each interval below each point, ``(n, points)``; 0 or 1 for intervals of width 0."""
    width = (high - low)[:, None]
    part = np.clip(points - low[:, None], 0, width)
    return np.where(width > 0, part / np.where(width > 0, width, 1), points >= low[:, None])
