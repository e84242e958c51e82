"""Whether a model is as sure of itself as it ought to be: ratings against the normal that it predicts.

People can only answer what the scale lets them, so a rating stands for an interval of what they would have liked to
say: on a scale with steps everything nearer to it than to its neighbours, at the ends of any scale everything beyond.
The probability integral transform (PIT) of a rating is therefore an interval too, and what is counted is how much of
it lies where: the non-randomised PIT of Czado, Gneiting & Held (Biometrics 65, 2009, 1254-1261), in which ratings
that come exactly as predicted spread evenly over [0, 1], however coarse the scale.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from pamela_rl.agreement.measures import Array
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError

LEVELS = (0.5, 0.8, 0.95)


def pit(predicted: Array, std: Array, given: Array, scale: RatingScale) -> tuple[Array, Array]:
    """Return where each rating lies in what was predicted: the ends of its interval of probability, ``(n,)`` each.

    Args:
        predicted: Expected ratings, ``(n,)``.
        std: Spread of single ratings around them, rating units, ``(n,)``; see ``measure.predictions``.
        given: The ratings, ``(n,)``.
        scale: What ratings can be.

    Raises:
        DataError: A std is not a positive number.
    """
    bad = ~((std > 0) & np.isfinite(std))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(std)} predictive stds are not positive numbers, the first is {std[bad][0]}; "
            "give the spread of single ratings (measure.predictions), not 0 for sure."
        )
    half = scale.resolution / 2
    highest = scale.high  # that can be given
    if scale.resolution:
        highest = scale.low + scale.resolution * np.floor((scale.high - scale.low) / scale.resolution + 1e-9)
    low = np.where(given <= scale.low, -np.inf, given - half)
    high = np.where(given >= highest, np.inf, given + half)
    return ndtr((low - predicted) / std), ndtr((high - predicted) / std)


def coverage(
    predicted: Array, std: Array, given: Array, scale: RatingScale, levels: tuple[float, ...] | Array = LEVELS
) -> Array:
    """Return how much of each rating lies in each central interval, ``(n, levels)``; the mean should be the level.

    Below the level the model is too sure of itself, above it not sure enough.

    Args:
        predicted: Expected ratings, ``(n,)``.
        std: Spread of single ratings around them, rating units, ``(n,)``.
        given: The ratings, ``(n,)``.
        scale: What ratings can be.
        levels: Share of ratings that each interval ought to hold.

    Raises:
        DataError: A std is not a positive number.
    """
    low, high = pit(predicted, std, given, scale)
    ends = np.asarray(levels, dtype=np.float64)
    return _below(low, high, (1 + ends) / 2) - _below(low, high, (1 - ends) / 2)


def pit_histogram(predicted: Array, std: Array, given: Array, scale: RatingScale, num_bins: int = 10) -> Array:
    """Return the share of ratings in each part of what was predicted, ``(num_bins,)``, all alike if it is right.

    A valley in the middle is a model too sure of itself, a hill one not sure enough, a slope a bias.

    Raises:
        DataError: A std is not a positive number.
    """
    low, high = pit(predicted, std, given, scale)
    below = _below(low, high, np.linspace(0, 1, num_bins + 1)).mean(axis=0)
    below[0], below[-1] = 0, 1  # a PIT of exactly 0 or 1 lies in the outermost part
    return np.asarray(np.diff(below))


def _below(low: Array, high: Array, points: Array) -> Array:
    """Tell how much of each interval lies below each point, ``(n, points)``; an interval of no width, all or nothing."""
    width = (high - low)[:, None]
    part = np.clip(points - low[:, None], 0, width)
    return np.where(width > 0, part / np.where(width > 0, width, 1), points >= low[:, None])
