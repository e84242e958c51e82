"""Bradley-Terry: from who won against whom to one strength an arm, on the Elo scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pamela_rl.evaluation.statistics import NUM_DRAWS, Array, Interval

CENTRE = 1000.0  # mean Elo over arms
ELO_PER_NAT = 400 / np.log(10)  # 400 points are odds of ten to one
_MOST_STEPS, _LONGEST_STEP = 200, 1.0


def strengths(wins: Array, prior: float = 1.0) -> Array:
    """Fit strengths by maximum likelihood: arm i beats arm j with odds ``exp(strength_i - strength_j)``.

    As a light prior every two arms are taken to have tied ``prior`` more times, half a win each: so an arm that always
    won stays finite, and arms that never met are taken for equals. For two arms this is the log of ``(wins + 1/2) /
    (losses + 1/2)``, the usual correction of log odds.

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
    for _ in range(_MOST_STEPS):  # Newton on a concave function, steps kept short
        chance = expit(strength[..., :, None] - strength[..., None, :])  # of the row's arm against the column's
        gradient = (won - games * chance).sum(axis=-1)
        weight = games * chance * (1 - chance)
        curvature = weight.sum(axis=-1)[..., None] * np.eye(count) - weight + 1.0  # + 1 holds the mean where it is
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        longest = np.abs(step).max()
        strength = strength + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        strength -= strength.mean(axis=-1, keepdims=True)
        if longest < 1e-9:
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

    All choices count alike. The bootstrap draws people and, within each, prompts again with replacement; with one
    person only prompts.

    Args:
        scores: 1 where the first arm won, 0 where the second did, one half for a tie, ``(n,)``.
        first: Number of the first arm, from 0, ``(n,)``.
        second: Number of the second, ``(n,)``.
        users: Who chose, ``(n,)``.
        prompts: Of which prompt, ``(n,)``.
        num_arms: Arms in all, ``k``.
        seed: Of the bootstrap.
    """
    cells: dict[tuple[int, int], Array] = {}
    for score, one, two, user, prompt in zip(scores, first, second, users, prompts, strict=True):
        wins = cells.setdefault((int(user), int(prompt)), np.zeros((num_arms, num_arms)))
        wins[one, two] += score
        wins[two, one] += 1 - score
    people = [np.stack([w for (who, _), w in cells.items() if who == user]) for user in sorted({u for u, _ in cells})]
    drawn = _drawn_again(people, np.random.default_rng(seed))
    estimate = _to_elo(strengths(sum((p.sum(axis=0) for p in people), np.zeros((num_arms, num_arms)))))
    low, high = np.quantile(_to_elo(strengths(drawn)), [0.025, 0.975], axis=0)
    return [Interval(float(e), float(a), float(b)) for e, a, b in zip(estimate, low, high)]


def _to_elo(strength: Array) -> Array:
    return np.asarray(CENTRE + ELO_PER_NAT * strength, dtype=np.float64)


def _drawn_again(people: Sequence[Array], rng: np.random.Generator) -> Array:
    """Return tables of wins, ``(draws, k, k)``, from each person's by prompt, ``(prompts, k, k)``."""
    tables = np.zeros((NUM_DRAWS, *people[0].shape[1:]))
    for chosen in rng.integers(len(people), size=(len(people), NUM_DRAWS)):
        for place in np.unique(chosen):
            mine, where = people[place], chosen == place
            times = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=int(where.sum()))
            tables[where] += np.tensordot(times.astype(np.float64), mine, axes=1)
    return tables
