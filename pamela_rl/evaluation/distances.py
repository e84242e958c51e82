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


def distances_to_others(samples: Tensor, groups: Tensor) -> Tensor:
    """Return each sample's mean RMS difference to the others of its group, ``(b,)``; 0 for one that is alone.

    One that is not finite is NaN, and none of the others for the rest.

    Args:
        samples: Images or latents, ``(b, …)``.
        groups: Any integers, ``(b,)``.
    """
    flat, groups = samples.flatten(1).float(), groups.to(samples.device)
    finite = flat.isfinite().all(dim=1)
    same = (groups[:, None] == groups[None]) & ~torch.eye(len(groups), dtype=torch.bool, device=samples.device) & finite
    total: Tensor = torch.where(same, torch.cdist(flat, flat), 0.0).sum(dim=1)
    mean: Tensor = total / same.sum(dim=1).clamp(min=1) / flat.shape[1] ** 0.5
    return torch.where(finite, mean, torch.nan)


def distance(images: Tensor, others: Tensor) -> float:
    """Return the mean RMS pixel difference of images drawn from the same prompts and seeds, in [0, 1]."""
    return float((images - others).square().flatten(1).mean(dim=1).sqrt().mean())
