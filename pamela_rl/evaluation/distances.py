"""Pixel distances between images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def diversity(images: Tensor, groups: NDArray[np.int64]) -> float:
    """Return the mean RMS pixel difference between images of the same group, in [0, 1]."""
    distances = []
    for group in np.unique(groups):
        members = images[torch.from_numpy(groups == group)].flatten(1).double()
        if len(members) > 1:
            distances.append(float(torch.pdist(members).mean()) / members.shape[1] ** 0.5)
    return float(np.mean(distances)) if distances else float("nan")


def distance(images: Tensor, others: Tensor) -> float:
    """Return the mean RMS pixel difference of images drawn from the same prompts and seeds, in [0, 1]."""
    return float((images - others).square().flatten(1).mean(dim=1).sqrt().mean())
