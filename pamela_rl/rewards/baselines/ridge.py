"""Linear algebra of the baselines: standardised features, principal axes, ridge regression, variance components."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = torch.logspace(-6, 4, 41, dtype=torch.float64)  # in units of the largest eigenvalue
FEW_IMAGES = 100


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of features.

    Attributes:
        feature_mean: ``(d,)``, float64.
        feature_std: ``(d,)``, float64.
    """

    feature_mean: Tensor
    feature_std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardisation:
        """Compute them from features, ``(n, d)``."""
        features = features.double()
        spread = features.std(dim=0, correction=0)
        # features that are constant in training keep a scale of 1: dividing by almost 0 would blow them up later
        return cls(features.mean(dim=0), torch.where(spread > 1e-3, spread, torch.ones_like(spread)))

    def __call__(self, features: Tensor) -> Tensor:
        """Return standardised features, ``(n, d)``, float64, with gradient."""
        return (features.double() - self.feature_mean) / self.feature_std


def principal_axes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the principal component scores, ``(n, r)``, and the axes, ``(d, r)``, in order of decreasing variance.

    Uses the smaller of ``rows.T @ rows`` and ``rows @ rows.T``; directions without variance are left out.

    Args:
        rows: Centred rows, ``(n, d)``, float64.
    """
    wide = rows.shape[0] < rows.shape[1]
    values, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    keep = (values > (1e-10 * values[-1]).clamp(min=1e-12)).nonzero().squeeze(-1).flip(0)
    values, vectors = values[keep], vectors[:, keep]
    if wide:
        return vectors * values.sqrt(), rows.T @ (vectors / values.sqrt())
    return rows @ vectors, vectors


def weighted_ridge(rows: Tensor, targets: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a weighted ridge regression with the penalty chosen by leave-one-out cross-validation.

    The leave-one-out error of a row is its residual over one minus its leverage (Allen's PRESS).

    Args:
        rows: ``(n, d)``, float64.
        targets: ``(n,)``, float64.
        counts: Weight of each row, ``(n,)``, float64.

    Returns:
        Weights, ``(d,)``, intercept, ``()``, and the leave-one-out predictions, ``(n,)``.
    """
    share, root = counts / counts.sum(), counts.sqrt()
    centre, mean = share @ rows, share @ targets
    centred_targets = root * (targets - mean)
    places, axes = principal_axes(root[:, None] * (rows - centre))
    eigenvalues = places.square().sum(dim=0)
    largest = eigenvalues[:1].sum().clamp(min=1e-12)  # there may be no axis
    shrunk = 1 / (eigenvalues[:, None] + PENALTIES * largest)
    pull = places.T @ centred_targets  # (r,)
    residuals = centred_targets[:, None] - places @ (shrunk * pull[:, None])  # (n, penalties)
    leverage = share[:, None] + places.square() @ shrunk  # of the intercept and of the slopes
    errors = residuals / (1 - leverage).clamp(min=1e-9)
    best = int(errors.square().sum(dim=0).argmin())
    weights = axes @ (shrunk[:, best] * pull)
    return weights, mean - centre @ weights, targets - errors[:, best] / root


def variance_components(values: Tensor, groups: Tensor) -> tuple[float, float]:
    """Return the variance within groups and between the groups' expectations, by one-way analysis of variance.

    If no group has two values, all variance counts as within.

    Args:
        values: ``(n,)``, float64.
        groups: Which group each belongs to, any integers, ``(n,)``.
    """
    means, counts, places = group_means(values, groups)
    free = len(values) - len(counts)
    if not free:
        return max(float(values.var(correction=0)), 1e-12), 0.0
    within = max(float((values - means[places]).square().sum()) / free, 1e-12)
    between = float((counts * (means - values.mean()).square()).sum()) - (len(counts) - 1) * within
    size = len(values) - float(counts.square().sum()) / len(values)
    return within, max(between / size, 0.0) if size > 0 else 0.0


def group_means(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each group's mean and count, ``(g,)``, groups in rising order, and each value's group, ``(n,)``."""
    places, counts = groups.unique(return_inverse=True, return_counts=True)[1:]
    sums = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, places, values)
    return sums / counts, counts.double(), places


def leading_axes(rows: Tensor, count: int) -> Tensor:
    """Return the leading principal axes, ``(d, q)``, all divided by the standard deviation along the first.

    With fewer than a hundred pictures all axes are kept: features may then be one-hot ids, without leading axes.

    Args:
        rows: Standardised features of training pictures, ``(n, d)``, float64.
        count: Number of axes.
    """
    places, axes = principal_axes(rows)
    unit = places[:, :1].square().mean().sqrt() if places.shape[1] else 1.0
    return axes[:, : count if len(rows) >= FEW_IMAGES else None] / unit


def with_constant(rows: Tensor) -> Tensor:
    """Prepend a column of ones, ``(n, 1 + k)``."""
    return torch.cat([rows.new_ones(len(rows), 1), rows], dim=1)


def moments(design: Tensor, targets: Tensor, users: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each user's ``design.T @ design``, ``(u, k, k)``, and ``design.T @ targets``, ``(u, k)``."""
    gram = torch.zeros(count, design.shape[1], design.shape[1], dtype=torch.float64)
    moment = torch.zeros(count, design.shape[1], dtype=torch.float64)
    for user in users.unique().tolist():
        mine = users == user
        gram[user] = design[mine].T @ design[mine]
        moment[user] = design[mine].T @ targets[mine]
    return gram, moment
