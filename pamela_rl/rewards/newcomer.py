"""A newcomer's taste in closed form, from a handful of ratings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.rewards.taste_basis import Posterior, TasteBasis


def update(prior: Posterior, design: Tensor, residuals: Tensor, noise_variance: float) -> Posterior:
    """Bayesian linear regression: add observations to what is known.

    Args:
        prior: Before, ``(k + 1,)``.
        design: Rows ``[1, phi(x)]``, ``(n, k + 1)``.
        residuals: Ratings minus the shared score, ``(n,)``.
        noise_variance: Of one rating.
    """
    design, residuals = design.double(), residuals.double()
    # in the observations' own space: n is a handful, and the prior may be nearly singular
    projected = prior.covariance @ design.T
    spread = design @ projected + noise_variance * torch.eye(len(design), dtype=torch.float64)
    gain = torch.linalg.solve(spread, projected.T).T
    mean = prior.mean + gain @ (residuals - design @ prior.mean)
    covariance = prior.covariance - gain @ projected.T
    return Posterior(mean, 0.5 * (covariance + covariance.T))


@torch.no_grad()
def fit_newcomer(
    basis: TasteBasis, features: Tensor, ratings: Tensor, demographics: Mapping[str, Any] | None = None
) -> Posterior:
    """Learn somebody's taste from their ratings of a few pictures.

    Args:
        basis: Fitted on other people.
        features: Of the rated pictures, ``(n, feature_dim)``.
        ratings: In the units the basis was fitted in, ``(n,)``.
        demographics: What the person reports, if anything.

    Raises:
        DataError: Ratings and pictures do not pair up, or a rating is not a finite number.
    """
    if len(features) != len(ratings) or not ratings.isfinite().all():
        raise DataError(
            f"a newcomer gave {len(ratings)} ratings, {int((~ratings.isfinite()).sum())} of them not finite, "
            f"of {len(features)} pictures; give one finite rating a picture."
        )
    shared, design = basis.network(features.float())
    return update(basis.prior(demographics), design, ratings.double() - shared.double(), basis.noise_variance)
