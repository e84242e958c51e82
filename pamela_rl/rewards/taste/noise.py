"""How far single ratings spread around what a person means, and how that differs between people."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

# spreads of the prior around its centre, and what a standard normal gives each: a newcomer's noise is one of these
LEVELS = torch.linspace(-2.4, 2.4, 7, dtype=torch.float64)


@dataclass(frozen=True)
class Noise:
    """Variances, in squared rating units, and the log-normal prior that people's are drawn from.

    Attributes:
        variances: Of a single rating around the person's own mean for that picture, ``(u,)``.
        misfit: Of that mean around what the model can express, the same every time the person sees the picture.
        centre: Mean of the logarithm of people's variances.
        width: Standard deviation of that logarithm.
        floor: What rounding to the scale's steps adds to everybody's, scaled along with them: held-out ratings outrank
            it.
    """

    variances: Tensor
    misfit: float
    centre: float
    width: float
    floor: float

    def levels(self) -> tuple[Tensor, Tensor]:
        """Return variances that a newcomer's may be, and the log-probability of each, ``(g,)``."""
        logs = -0.5 * LEVELS.square()
        return (self.centre + self.width * LEVELS).exp() + self.floor, logs - logs.logsumexp(dim=0)

    def scaled(self, factor: float) -> Noise:
        """Return the same with everybody's variance multiplied."""
        centre = self.centre + float(np.log(factor))
        return replace(self, variances=self.variances * factor, centre=centre, floor=self.floor * factor)
