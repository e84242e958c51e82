"""Means with 95 % intervals: over users, over prompts, and over both where all users share the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

Array = NDArray[np.float64]
Labels = NDArray[Any]
LEVEL = 0.95
_ROUNDING = 1e-12  # variances below this share of the squared values are rounding errors


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval.

    Attributes:
        estimate: The estimate.
        low: Lower end of the interval; None where there is nothing to estimate its width from, e.g. over one person.
        high: Upper end, or None with ``low``.
    """

    estimate: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return the three numbers by name."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


def mean_interval(
    values: Array, users: Labels | None = None, prompts: Labels | None = None, weights: Array | None = None
) -> Interval:
    """Estimate a mean with a 95 % interval over users and prompts, both drawn from larger populations.

    Users and prompts are crossed random effects: ``value = mean + user + prompt + user x prompt``. If all users share the
    prompts and their noise, a prompt's effect does not average out over users. The variance components are those
    whose expected sums of squares match the observed ones (the analysis of variance, for complete tables), the
    interval is Student's with Satterthwaite's degrees of freedom. Images of one user and prompt always stay together.

    With one user the interval is over prompts, for this user alone; with one prompt it is over users. With one of both,
    there is none.

    Args:
        values: One per image, ``(n,)``; paired differences give a paired interval.
        users: Of each image, ``(n,)``; None means that every value is another user's.
        prompts: Of each image, ``(n,)``; None means that nothing is shared.
        weights: Of each image, with sum 1, ``(n,)``; None weighs users alike, and the images of a user alike.

    Returns:
        The estimate with its interval; NaN without an interval where there are no values.
    """
    if not len(values):
        return Interval(float("nan"), None, None)
    user = np.arange(len(values)) if users is None else np.unique(users, return_inverse=True)[1]
    prompt = user if prompts is None else np.unique(prompts, return_inverse=True)[1]
    if weights is None:
        images = np.bincount(user)[user]
        weights = 1 / (images * (user.max() + 1))
    estimate = float(weights @ values)
    cells = _both(user, prompt)
    if cells.max() == 0:
        return Interval(estimate, None, None)
    variance, degrees_of_freedom = _variance(weights * (values - estimate), weights, _partitions(user, prompt, cells))
    if variance <= _ROUNDING * float(weights @ values**2):
        return Interval(estimate, estimate, estimate)
    margin = float(student_t.ppf((1 + LEVEL) / 2, degrees_of_freedom)) * variance**0.5
    return Interval(estimate, estimate - margin, estimate + margin)


def share_interval(values: Array, users: Labels | None = None, prompts: Labels | None = None) -> Interval:
    """Estimate a share as ``mean_interval`` does, with an interval inside [0, 1].

    Where all values are the same, e.g. all won, there is no interval: their variance says nothing of how often the
    other outcome occurs.
    """
    interval = mean_interval(values, users, prompts)
    if interval.low is None or interval.high is None or np.ptp(values) == 0:
        return Interval(interval.estimate, None, None)
    return Interval(interval.estimate, max(0.0, interval.low), min(1.0, interval.high))


def _partitions(user: Labels, prompt: Labels, cells: Labels) -> list[Labels]:
    """Return the ways to group images that differ: users and prompts where they have several levels, cells last."""
    coarse = [labels for labels in (user, prompt) if 0 < labels.max() < cells.max()]
    return [*coarse, cells]


def _variance(weighted: Array, weights: Array, partitions: Sequence[Labels]) -> tuple[float, float]:
    """Estimate the variance of the weighted mean, and Satterthwaite's degrees of freedom.

    Args:
        weighted: Weight times deviation from the mean, ``(n,)``.
        weights: With sum 1, ``(n,)``.
        partitions: Group of each image, ``(n,)`` each; the last is the finest.
    """
    observed = [float((np.bincount(labels, weighted) ** 2).sum()) for labels in partitions]
    expected = [[_coefficient(rows, columns, weights) for columns in partitions] for rows in partitions]
    shares = [float((np.bincount(labels, weights) ** 2).sum()) for labels in partitions]  # 1 / effective number
    components = np.linalg.lstsq(np.array(expected), np.array(observed))[0] * shares
    residual = max(float(components[-1]), 0.0)
    terms = [residual + component for component in components[:-1] if component > 0]
    degrees = [1 / share - 1 for component, share in zip(components[:-1], shares) if component > 0]
    residual_degrees = max(1.0, len(np.unique(partitions[-1])) - 1 - sum(1 / share - 1 for share in shares[:-1]))
    if not terms:
        return residual, residual_degrees
    variance = sum(terms) - (len(terms) - 1) * residual
    squares = sum(term**2 / d for term, d in zip(terms, degrees))
    squares += residual**2 / residual_degrees if len(terms) > 1 else 0.0
    return variance, variance**2 / squares if squares else 1.0


def _coefficient(rows: Labels, columns: Labels, weights: Array) -> float:
    """Expected sum of squared weighted deviations by the groups of ``rows``, for unit variance between ``columns``."""
    of_row, of_column = np.bincount(rows, weights), np.bincount(columns, weights)
    both = np.bincount(_both(rows, columns), weights)
    crossed = float((weights * of_row[rows] * of_column[columns]).sum())
    return float((both**2).sum()) - 2 * crossed + float((of_row**2).sum() * (of_column**2).sum())


def _both(rows: Labels, columns: Labels) -> Labels:
    """Number the pairs of groups that occur, ``(n,)``."""
    return np.unique(rows * (columns.max() + 1) + columns, return_inverse=True)[1]
