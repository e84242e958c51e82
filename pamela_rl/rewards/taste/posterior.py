"""What is known of one person's taste, in closed form, and how an answer changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pamela_rl.rewards.taste.evidence import LOGISTIC
from pamela_rl.rewards.taste.noise import Noise

BOUND_ROUNDS = 12  # of tightening the bound on choices; it converges at once unless a choice is very surprising


@dataclass(frozen=True)
class Posterior:
    """A person's taste ``[bias, w]``: for each level that their noise may have, a normal distribution.

    Attributes:
        levels: Variances of a single rating, ``(g,)``, float64; one where the person's noise is known.
        log_weights: How likely each level is, ``(g,)``.
        means: ``(g, w)``.
        covariances: ``(g, w, w)``.
        misfit: Variance of the person's opinion of a picture around what the basis can express.
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
        """Of the taste, ``(w,)``."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """Of the taste, the doubt about the noise included, ``(w, w)``."""
        off = self.means - self.mean
        within = torch.einsum("g,gij->ij", self.weights, self.covariances)
        return within + torch.einsum("g,gi,gj->ij", self.weights, off, off)

    @property
    def noise_variance(self) -> Tensor:
        """Expected variance of a single rating."""
        return self.weights @ self.levels

    def observe(
        self, design: Tensor, residuals: Tensor, counts: Tensor | None = None, within: float = 0.0
    ) -> Posterior:
        """Add ratings: exact Bayesian linear regression at every level of noise.

        One after another or all at once gives the same. Another rating of a picture counts as one of another picture
        that looks the same, unless repeats come as one entry with their count.

        Args:
            design: What each entry says about the taste, ``(n, w)``.
            residuals: Mean ratings minus what is shared, ``(n,)``.
            counts: Ratings behind each mean, ``(n,)``; None is one each.
            within: Sum of squares of repeats around their means: what it tells of the noise.
        """
        design, residuals = design.double(), residuals.double()
        counts = torch.ones(len(design), dtype=torch.float64) if counts is None else counts.double()
        variances = self.misfit + self.levels[:, None] / counts  # (g, n)
        repeats = float(counts.sum()) - len(counts)
        evidence = -0.5 * (repeats * self.levels.log() + within / self.levels)
        return self._observe(design, residuals, variances, evidence)

    def prefer(self, design: Tensor, offsets: Tensor, outcomes: Tensor) -> Posterior:
        """Add choices between two pictures: Bradley-Terry, by the normal bound of Jaakkola and Jordan (2000).

        Two ratings' worth of the person's noise decides how sure a choice is, so choices and ratings add up. How
        consistent somebody's choices are tells little of that noise: the weights of its levels stay.

        Args:
            design: What the taste adds to a over b, ``(n, w)``.
            offsets: What everybody sees in a over b, ``(n,)``.
            outcomes: 1 where a was chosen, 0 where b was, one half for a tie, ``(n,)``.
        """
        design, offsets, outcomes = design.double(), offsets.double(), outcomes.double()
        unit = 2 * (self.levels[:, None] + self.misfit) / LOGISTIC**2  # squared rating points in a squared logit
        curvature = torch.full((len(self.levels), len(design)), 0.25, dtype=torch.float64)
        posterior = self
        for _ in range(BOUND_ROUNDS):
            targets = (outcomes - 0.5) * unit.sqrt() / curvature - offsets
            posterior = self._observe(design, targets, unit / curvature, torch.zeros_like(self.levels))
            mean = offsets + posterior.means @ design.T
            square = mean.square() + ((design @ posterior.covariances) * design).sum(dim=2)
            xi = (square / unit).sqrt().clamp(min=1e-6)
            curvature = torch.tanh(xi / 2) / (2 * xi)
        return replace(posterior, log_weights=self.log_weights)

    def _observe(self, design: Tensor, targets: Tensor, variances: Tensor, evidence: Tensor) -> Posterior:
        # in the answers' own space: they are a handful, and the prior may be nearly singular
        projected = self.covariances @ design.T  # (g, w, n)
        spread = design @ projected + torch.diag_embed(variances)
        factor = torch.linalg.cholesky(spread)
        error = targets - self.means @ design.T  # (g, n)
        solved = torch.cholesky_solve(error[:, :, None], factor).squeeze(-1)
        means = self.means + (projected @ solved[:, :, None]).squeeze(-1)
        half = torch.linalg.solve_triangular(factor, projected.transpose(1, 2), upper=False)
        volume = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        gained = evidence - volume - 0.5 * (error * solved).sum(dim=1)
        log_weights = (self.log_weights + gained).log_softmax(dim=0)
        return Posterior(self.levels, log_weights, means, self.covariances - half.transpose(1, 2) @ half, self.misfit)


def before_any_answer(mean: Tensor, covariance: Tensor, noise: Noise) -> Posterior:
    """Start from the prior, with the noise not known."""
    levels, log_weights = noise.levels()
    count = len(levels)
    return Posterior(levels, log_weights, mean.expand(count, -1), covariance.expand(count, -1, -1), noise.misfit)
