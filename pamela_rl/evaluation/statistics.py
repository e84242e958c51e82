"""Intervals, win rates and distances between pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


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
    generator = np.random.default_rng(seed)
    cells: list[tuple[Array, Array]] = []  # sum and count of each prompt, one pair of arrays a person
    for user in np.unique(users):
        mine = users == user
        _, place = np.unique(prompts[mine], return_inverse=True)
        cells.append((np.bincount(place, values[mine]).astype(np.float64), np.bincount(place).astype(np.float64)))
    draws = []
    for _ in range(1000):
        chosen = generator.integers(len(cells), size=len(cells))
        means = []
        for person in chosen:
            sums, counts = cells[person]
            rows = generator.integers(len(sums), size=len(sums))
            means.append(sums[rows].sum() / counts[rows].sum())
        draws.append(np.mean(means))
    low, high = np.quantile(draws, [0.025, 0.975])
    estimate = np.mean([sums.sum() / counts.sum() for sums, counts in cells])
    return Interval(float(estimate), float(low), float(high))


def wins(first: Array, second: Array) -> Array:
    """Return 1 where the first is higher, 0 where the second is, one half where they tie, ``(n,)``."""
    return np.where(first == second, 0.5, (first > second).astype(np.float64))


def diversity(images: Tensor, groups: NDArray[np.int64]) -> float:
    """Return how different pictures of the same group are: mean over pairs of the RMS pixel difference in [0, 1]."""
    distances = []
    for group in np.unique(groups):
        members = images[torch.from_numpy(groups == group)].flatten(1).double()
        if len(members) > 1:
            distances.append(float(torch.pdist(members).mean()) / members.shape[1] ** 0.5)
    return float(np.mean(distances)) if distances else float("nan")


def distance(images: Tensor, others: Tensor) -> float:
    """Return the mean RMS pixel difference of pictures drawn from the same prompts and seeds, in [0, 1]."""
    return float((images - others).square().flatten(1).mean(dim=1).sqrt().mean())
