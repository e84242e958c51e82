"""Credit: how much better each picture is than the others of its group. Pure."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, group_ids: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Score each image against the other images of the same group.

    Every group is centred on zero and scaled to unit standard deviation, so an easy prompt gives no more signal
    than a hard one (DDPO, arXiv:2305.13301). A group of one, or one whose rewards all tie, yields zeros. A reward
    that is not finite takes no part: its image gets zero and the others are compared without it.

    Args:
        rewards: One reward per image, in the reward model's units, any numeric type, ``(b,)``.
        group_ids: The group each image belongs to; any integers, any order, ``(b,)``.
        eps: Added to each group's standard deviation, in reward units.

    Returns:
        Unitless advantages, fp32, ``(b,)``, in the order of ``rewards``.
    """
    values = rewards.double()
    finite = values.isfinite()
    _, place = torch.unique(group_ids, return_inverse=True)
    weight = finite.double()
    values = torch.where(finite, values, 0.0)
    size = int(place.max()) + 1 if len(place) else 0

    def per_group(terms: Tensor) -> Tensor:
        return torch.zeros(size, dtype=torch.float64, device=terms.device).index_add_(0, place, terms)

    count = per_group(weight).clamp(min=1)
    centred = (values - (per_group(values) / count)[place]) * weight
    std = (per_group(centred.square()) / count).sqrt()[place]
    tied = std <= 1e-9 * (1 + values.abs())
    return torch.where(tied, 0.0, centred / (std + eps)).float()
