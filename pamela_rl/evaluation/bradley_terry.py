"""The Bradley-Terry model: pairwise wins to one strength per arm, on the Elo scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pamela_rl.intervals import Interval, mean_interval

Array = NDArray[np.float64]
CENTRE = 1000.0  # mean Elo over arms
ELO_PER_NAT = 400 / np.log(10)  # 400 points are odds of ten to one
_WIDEST = 1000.0  # std of a normal prior that only matters between arms that never met, natural log odds
_QUANTILE = 1.96  # of a normal distribution, for 95 %
_MAX_ITERATIONS, _MAX_STEP, _TOLERANCE = 200, 1.0, 1e-9


def fit(wins: Array) -> tuple[Array, Array]:
    """Fit strengths: arm i beats arm j with odds ``exp(strength_i - strength_j)``.

    The likelihood is penalized by Jeffreys' prior (Firth, Biometrika 80, 1993). This removes the first-order bias, keeps
    an arm that always won finite, and adds ``k - 1`` ties in all, however many pairs of arms and choices there are. For
    two arms it is the log of ``(wins + 1/2) / (losses + 1/2)``, the usual correction of log odds. Arms that never met,
    not even through others, are equal.

    Args:
        wins: How often the arm of the row won against the arm of the column, a tie one half each, ``(k, k)``.

    Returns:
        Strengths in natural log odds, mean 0, ``(k,)``, and their covariance if choices were independent, ``(k, k)``.
    """
    games, count = wins + wins.T, len(wins)
    strength, step = np.zeros(count), np.full(count, np.inf)
    for _ in range(_MAX_ITERATIONS):
        covariance, probability, weight = _at(strength, games)
        if np.abs(step).max() < _TOLERANCE:
            break
        variance = np.diag(covariance)[:, None] + np.diag(covariance) - 2 * covariance  # of a difference, (k, k)
        ties = weight * variance  # of each pair: its leverage
        gradient = (wins - games * probability + ties * (0.5 - probability)).sum(axis=1) - strength / _WIDEST**2
        step = np.clip(covariance @ gradient, -_MAX_STEP, _MAX_STEP)
        strength = strength + step
    centre = np.eye(count) - 1 / count
    return strength - strength.mean(), centre @ covariance @ centre


def _at(strength: Array, games: Array) -> tuple[Array, Array, Array]:
    """Inverse curvature, probability of the row's arm against the column's, and weight of each pair, ``(k, k)``."""
    probability: Array = expit(strength[:, None] - strength)
    weight = games * probability * (1 - probability)
    curvature = np.diag(weight.sum(axis=1) + 1 / _WIDEST**2) - weight + 1.0  # + 1 fixes the mean
    return np.asarray(np.linalg.inv(curvature), dtype=np.float64), probability, weight


def elo(
    scores: Array,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    users: NDArray[np.int64],
    prompts: NDArray[np.int64],
    num_arms: int,
) -> list[Interval]:
    """Estimate each arm's Elo from choices, mean 1000, with 95 % intervals over users and prompts.

    All choices have equal weight. The interval is that of a mean of pseudo-values, one a choice: the estimate plus the
    choice's influence on it (the infinitesimal jackknife). It is at least as wide as if choices were independent, which
    matters where an arm nearly always won. There is none over one person and one prompt, nor for arms that never met.

    Args:
        scores: 1 where the first arm won, 0 where the second did, one half for a tie, ``(n,)``.
        first: Index of the first arm, ``(n,)``.
        second: Index of the second arm, ``(n,)``.
        users: Of each choice, ``(n,)``.
        prompts: Of each choice, ``(n,)``.
        num_arms: Number of arms, ``k``.
    """
    wins = np.zeros((num_arms, num_arms))
    np.add.at(wins, (first, second), scores)
    np.add.at(wins, (second, first), 1 - scores)
    strengths, covariance = fit(wins)
    surprise = scores - expit(strengths[first] - strengths[second])
    influence = len(scores) * surprise[:, None] * (covariance[first] - covariance[second])  # (n, k)
    weights = np.full(len(scores), 1 / len(scores))
    intervals = []
    for strength, influences, variance in zip(strengths, influence.T, np.diag(covariance), strict=True):
        shift = mean_interval(influences - influences.mean(), users, prompts, weights)
        centre = float(CENTRE + ELO_PER_NAT * strength)
        if shift.high is None or variance > _WIDEST:
            intervals.append(Interval(centre, None, None))
        else:
            margin = ELO_PER_NAT * max(shift.high, _QUANTILE * float(variance) ** 0.5)
            intervals.append(Interval(centre, centre - margin, centre + margin))
    return intervals
