"""Posterior of one user's taste in closed form, and its updates by ratings and choices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pamela_rl.rewards.taste.evidence import LOGISTIC
from pamela_rl.rewards.taste.noise import Noise

BOUND_ROUNDS = 12  # updates of the bound on choices; it converges fast unless a choice is very unlikely


@dataclass(frozen=True)
class Posterior:
    """Posterior of a user's taste ``[bias, w]``: a mixture of normals, one for each level of noise.

    Attributes:
        levels: Variances of a single rating, ``(g,)``, float64; a single one if the user's noise is known.
        log_weights: Log-weights of the levels, ``(g,)``.
        means: ``(g, w)``.
        covariances: ``(g, w, w)``.
        misfit: Variance of the user's mean rating of a picture around the prediction of the basis.
    """

    levels: Tensor
    log_weights: Tensor
    means: Tensor
    covariances: Tensor
    misfit: float

    @property
    def weights(self) -> Tensor:
        """Probability of each level, ``(g,)``."""
        return self.log_weights.softmax(dim=0)

    @property
    def mean(self) -> Tensor:
        """Mean of the taste, ``(w,)``."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """Covariance of the taste, including the uncertainty of the noise level, ``(w, w)``."""
        deviations = self.means - self.mean
        within = torch.einsum("g,gij->ij", self.weights, self.covariances)
        return within + torch.einsum("g,gi,gj->ij", self.weights, deviations, deviations)

    @property
    def noise_variance(self) -> Tensor:
        """Expected variance of a single rating."""
        return self.weights @ self.levels

    def observe_ratings(
        self,
        design: Tensor,
        residuals: Tensor,
        counts: Tensor | None = None,
        sum_of_squares: float = 0.0,
        unexplained: Tensor | float = 0.0,
    ) -> Posterior:
        """Add ratings: exact Bayesian linear regression at every level of noise.

        The result does not depend on order or batching. Repeats of a picture must be one entry with their count;
        separate entries count as different pictures with equal features.

        Args:
            design: Design row of each entry, ``(n, w)``.
            residuals: Mean ratings minus the shared score, ``(n,)``.
            counts: Number of ratings in each mean, ``(n,)``; None is one each.
            sum_of_squares: Sum of squared deviations of repeats from their means.
            unexplained: Variance of each image beyond the misfit, ``(n,)``.
        """
        design, residuals = design.double(), residuals.double()
        counts = torch.ones(len(design), dtype=torch.float64) if counts is None else counts.double()
        variances = self.misfit + unexplained + self.levels[:, None] / counts  # (g, n)
        repeats = float(counts.sum()) - len(counts)
        evidence = -0.5 * (repeats * self.levels.log() + sum_of_squares / self.levels)
        return self._observe(design, residuals, variances, evidence)

    def observe_choices(
        self, design: Tensor, offsets: Tensor, outcomes: Tensor, unexplained: Tensor | float = 0.0
    ) -> Posterior:
        """Add choices between two pictures: Bradley-Terry, by the normal bound of Jaakkola and Jordan (2000).

        The scale of a choice is the noise of two ratings of the user, so choices and ratings can be combined. The
        weights of the noise levels stay the same, because choices say little about the noise.

        Args:
            design: Difference of the design rows of a and b, ``(n, w)``.
            offsets: Difference of the shared scores of a and b, ``(n,)``.
            outcomes: 1 if a was chosen, 0 if b was, one half for a tie, ``(n,)``.
            unexplained: Variance of each pair of images beyond the misfit, ``(n,)``.
        """
        design, offsets, outcomes = design.double(), offsets.double(), outcomes.double()
        unit = 2 * (self.levels[:, None] + self.misfit) / LOGISTIC**2  # squared rating points in a squared logit
        curvature = torch.full((len(self.levels), len(design)), 0.25, dtype=torch.float64)
        posterior = self
        for _ in range(BOUND_ROUNDS):
            targets = (outcomes - 0.5) * unit.sqrt() / curvature - offsets
            posterior = self._observe(design, targets, unit / curvature + unexplained, torch.zeros_like(self.levels))
            mean = offsets + posterior.means @ design.T
            square = mean.square() + ((design @ posterior.covariances) * design).sum(dim=2)
            xi = (square / unit).sqrt().clamp(min=1e-6)
            curvature = torch.tanh(xi / 2) / (2 * xi)
        return replace(posterior, log_weights=self.log_weights)

    def _observe(self, design: Tensor, targets: Tensor, variances: Tensor, evidence: Tensor) -> Posterior:
        # in the space of the responses: they are few, and the prior may be nearly singular
        projected = self.covariances @ design.T  # (g, w, n)
        spread = design @ projected + torch.diag_embed(variances)
        factor = torch.linalg.cholesky(spread)
        error = targets - self.means @ design.T  # (g, n)
        solved = torch.cholesky_solve(error[:, :, None], factor).squeeze(-1)
        means = self.means + (projected @ solved[:, :, None]).squeeze(-1)
        half = torch.linalg.solve_triangular(factor, projected.transpose(1, 2), upper=False)
        volume = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        log_likelihood = evidence - volume - 0.5 * (error * solved).sum(dim=1)
        log_weights = (self.log_weights + log_likelihood).log_softmax(dim=0)
        return Posterior(self.levels, log_weights, means, self.covariances - half.transpose(1, 2) @ half, self.misfit)


def posterior_from_prior(mean: Tensor, covariance: Tensor, noise: Noise) -> Posterior:
    """Return the prior over tastes as a posterior without data, with unknown noise."""
    levels, log_weights = noise.levels()
    count = len(levels)
    return Posterior(levels, log_weights, mean.expand(count, -1), covariance.expand(count, -1, -1), noise.misfit)
