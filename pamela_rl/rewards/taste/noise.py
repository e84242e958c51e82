"""Noise of single ratings, and its distribution over users."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

# grid of a newcomer's log noise, in standard deviations from its mean
LEVELS = torch.linspace(-2.4, 2.4, 7, dtype=torch.float64)


@dataclass(frozen=True)
class Noise:
    """Noise variances, in squared rating points, and their log-normal prior over users.

    Attributes:
        variances: Variance of a single rating around the user's mean for that picture, ``(u,)``.
        misfit: Variance of that mean around the model's prediction, the same every time the user sees the picture.
        log_mean: Mean of the logarithm of the users' variances.
        log_std: Standard deviation of that logarithm.
        floor: Variance of rounding to the steps of the scale, added to every user's; ``scaled`` scales it too.
    """

    variances: Tensor
    misfit: float
    log_mean: float
    log_std: float
    floor: float

    def levels(self) -> tuple[Tensor, Tensor]:
        """Return a grid of a newcomer's noise variance, and the log-probability of each level, ``(g,)``."""
        logs = -0.5 * LEVELS.square()
        return (self.log_mean + self.log_std * LEVELS).exp() + self.floor, logs - logs.logsumexp(dim=0)

    def scaled(self, factor: float) -> Noise:
        """Return a copy with all variances multiplied by ``factor``."""
        log_mean = self.log_mean + float(np.log(factor))
        return replace(self, variances=self.variances * factor, log_mean=log_mean, floor=self.floor * factor)
