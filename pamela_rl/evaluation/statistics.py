"""Intervals and win rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUM_DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


def bootstrap_mean(values: Array, users: NDArray[np.int64], prompts: NDArray[np.int64], seed: int = 0) -> Interval:
    """Estimate a mean, with people and, within each person, prompts drawn again with replacement.

    With one person only prompts are drawn again; seeds of one prompt always stay together.

    Args:
        values: One a picture, ``(n,)``; paired differences give a paired interval.
        users: Whose picture, ``(n,)``.
        prompts: Of which prompt, ``(n,)``.
        seed: Of the bootstrap.
    """
    sums, counts = _cells(values, users, prompts)
    people, most = sums.shape
    generator = np.random.default_rng(seed)
    chosen = generator.integers(people, size=(NUM_DRAWS, people))
    num_prompts = (counts > 0).sum(axis=1)[chosen][..., None]
    rows = (generator.random((NUM_DRAWS, people, most)) * num_prompts).astype(np.int64)
    drawn = np.arange(most) < num_prompts  # as many as the person has
    total = (sums[chosen[..., None], rows] * drawn).sum(axis=2)
    means = total / (counts[chosen[..., None], rows] * drawn).sum(axis=2)
    low, high = np.quantile(means.mean(axis=1), [0.025, 0.975])
    estimate = (sums.sum(axis=1) / counts.sum(axis=1)).mean()
    return Interval(float(estimate), float(low), float(high))


def _cells(values: Array, users: NDArray[np.int64], prompts: NDArray[np.int64]) -> tuple[Array, Array]:
    """Sum and count of each person's prompts, one row a person, filled up with zeros on the right."""
    sums, counts = [], []
    for user in np.unique(users):
        mine = users == user
        _, place = np.unique(prompts[mine], return_inverse=True)
        sums.append(np.bincount(place, values[mine]))
        counts.append(np.bincount(place))
    most = max(map(len, counts))
    padded = [
        np.array([np.pad(row, (0, most - len(row))) for row in rows], dtype=np.float64) for rows in (sums, counts)
    ]
    return padded[0], padded[1]


def wins(first: Array, second: Array) -> Array:
    """Return 1 where the first is higher, 0 where the second is, one half where they tie, ``(n,)``."""
    return np.where(first == second, 0.5, (first > second).astype(np.float64))
