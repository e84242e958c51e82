"""The Bradley-Terry model: pairwise wins to one strength per arm, on the Elo scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pamela_rl.evaluation.statistics import NUM_RESAMPLES, Array, Interval

CENTRE = 1000.0  # mean Elo over arms
ELO_PER_NAT = 400 / np.log(10)  # 400 points are odds of ten to one
_MAX_ITERATIONS, _MAX_STEP = 200, 1.0


def strengths(wins: Array, prior: float = 1.0) -> Array:
    """Fit strengths by maximum likelihood: arm i beats arm j with odds ``exp(strength_i - strength_j)``.

    As a weak prior ``prior`` ties are added to every pair of arms, so that an arm that always won stays finite, and
    arms that never met are equal. For two arms this is the log of ``(wins + 1/2) / (losses + 1/2)``, the usual
    correction of log odds.

    Args:
        wins: How often the arm of the row won against the arm of the column, a tie one half each, ``(..., k, k)``.
        prior: Ties added to each pair of arms, above 0.

    Returns:
        Strengths in natural log odds, mean 0, ``(..., k)``.
    """
    count = wins.shape[-1]
    won = (wins + prior / 2) * (1 - np.eye(count))
    games = won + np.swapaxes(won, -1, -2)
    strength = np.zeros(won.shape[:-1])
    for _ in range(_MAX_ITERATIONS):  # Newton on a concave function, with bounded steps
        probability = expit(strength[..., :, None] - strength[..., None, :])  # of the row's arm against the column's
        gradient = (won - games * probability).sum(axis=-1)
        weight = games * probability * (1 - probability)
        curvature = weight.sum(axis=-1)[..., None] * np.eye(count) - weight + 1.0  # + 1 fixes the mean
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        largest = np.abs(step).max()
        strength = strength + np.clip(step, -_MAX_STEP, _MAX_STEP)
        strength -= strength.mean(axis=-1, keepdims=True)
        if largest < 1e-9:
            break
    return strength


def elo(
    scores: Array,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    users: NDArray[np.int64],
    prompts: NDArray[np.int64],
    num_arms: int,
    seed: int = 0,
) -> list[Interval]:
    """Estimate each arm's Elo from choices, mean 1000, with 95 % intervals.

    All choices have equal weight. The bootstrap resamples users and, within users, prompts; with one user only prompts.

    Args:
        scores: 1 where the first arm won, 0 where the second did, one half for a tie, ``(n,)``.
        first: Index of the first arm, ``(n,)``.
        second: Index of the second arm, ``(n,)``.
        users: Of each choice, ``(n,)``.
        prompts: Of each choice, ``(n,)``.
        num_arms: Number of arms, ``k``.
        seed: Of the bootstrap.
    """
    cells: dict[tuple[int, int], Array] = {}
    for score, one, two, user, prompt in zip(scores, first, second, users, prompts, strict=True):
        wins = cells.setdefault((int(user), int(prompt)), np.zeros((num_arms, num_arms)))
        wins[one, two] += score
        wins[two, one] += 1 - score
    wins_by_user = [
        np.stack([w for (who, _), w in cells.items() if who == user]) for user in sorted({u for u, _ in cells})
    ]
    resampled = _bootstrap_wins(wins_by_user, np.random.default_rng(seed))
    estimate = _to_elo(strengths(sum((p.sum(axis=0) for p in wins_by_user), np.zeros((num_arms, num_arms)))))
    low, high = np.quantile(_to_elo(strengths(resampled)), [0.025, 0.975], axis=0)
    return [Interval(float(e), float(a), float(b)) for e, a, b in zip(estimate, low, high)]


def _to_elo(strength: Array) -> Array:
    return np.asarray(CENTRE + ELO_PER_NAT * strength, dtype=np.float64)


def _bootstrap_wins(wins_by_user: Sequence[Array], rng: np.random.Generator) -> Array:
    """Resample tables of wins, ``(resamples, k, k)``, from each user's tables by prompt, ``(prompts, k, k)``."""
    tables = np.zeros((NUM_RESAMPLES, *wins_by_user[0].shape[1:]))
    for chosen in rng.integers(len(wins_by_user), size=(len(wins_by_user), NUM_RESAMPLES)):
        for index in np.unique(chosen):
            wins_by_prompt, draws = wins_by_user[index], chosen == index
            count = len(wins_by_prompt)
            counts = rng.multinomial(count, np.full(count, 1 / count), size=int(draws.sum()))
            tables[draws] += np.tensordot(counts.astype(np.float64), wins_by_prompt, axes=1)
    return tables
