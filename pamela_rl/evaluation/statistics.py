"""Bootstrap intervals and win rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUM_RESAMPLES = 1000  # of the bootstrap


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


def hierarchical_bootstrap_mean(
    values: Array, users: NDArray[np.int64], prompts: NDArray[np.int64], seed: int = 0
) -> Interval:
    """Estimate a mean over users with a 95 % bootstrap interval over users and, within users, prompts.

    With one user only prompts are resampled; seeds of one prompt always stay together.

    Args:
        values: One per image, ``(n,)``; paired differences give a paired interval.
        users: Of each image, ``(n,)``.
        prompts: Of each image, ``(n,)``.
        seed: Of the bootstrap.
    """
    sums, counts = _cells(values, users, prompts)
    num_users, max_prompts = sums.shape
    rng = np.random.default_rng(seed)
    chosen = rng.integers(num_users, size=(NUM_RESAMPLES, num_users))
    num_prompts = (counts > 0).sum(axis=1)[chosen][..., None]
    rows = (rng.random((NUM_RESAMPLES, num_users, max_prompts)) * num_prompts).astype(np.int64)
    valid = np.arange(max_prompts) < num_prompts  # each user's own number of prompts
    total = (sums[chosen[..., None], rows] * valid).sum(axis=2)
    means = total / (counts[chosen[..., None], rows] * valid).sum(axis=2)
    low, high = np.quantile(means.mean(axis=1), [0.025, 0.975])
    estimate = (sums.sum(axis=1) / counts.sum(axis=1)).mean()
    return Interval(float(estimate), float(low), float(high))


def _cells(values: Array, users: NDArray[np.int64], prompts: NDArray[np.int64]) -> tuple[Array, Array]:
    """Sum and count of each user's prompts, one row per user, padded with zeros on the right."""
    sums, counts = [], []
    for user in np.unique(users):
        own = users == user
        _, index = np.unique(prompts[own], return_inverse=True)
        sums.append(np.bincount(index, values[own]))
        counts.append(np.bincount(index))
    max_prompts = max(map(len, counts))
    padded = [
        np.array([np.pad(row, (0, max_prompts - len(row))) for row in rows], dtype=np.float64)
        for rows in (sums, counts)
    ]
    return padded[0], padded[1]


def wins(first: Array, second: Array) -> Array:
    """Return 1 where the first is higher, 0 where the second is, one half where they tie, ``(n,)``."""
    return np.where(first == second, 0.5, (first > second).astype(np.float64))
