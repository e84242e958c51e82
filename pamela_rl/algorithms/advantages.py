"""Advantages: rewards relative to the other images of a group. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pamela_rl.config import AdvantageScale


def group_advantages(
    rewards: Tensor, group_ids: Tensor, *, scale: AdvantageScale = "group", eps: float = 1e-6
) -> Tensor:
    """Score each image against the other images of the same group.

    Every group is centred on zero. Scaled by the "group", it also gets unit standard deviation, so an easy prompt gives
    no more signal than a hard one (DDPO, arXiv:2305.13301; GRPO); scaled by the "batch", all groups are divided by the
    standard deviation of all rewards (Flow-GRPO's global std). A group of one, or one whose rewards all tie, yields
    zeros. A reward that is not finite takes no part: its image gets zero and the others are compared without it.

    Args:
        rewards: One reward per image, in the reward model's units, any numeric type, ``(b,)``.
        group_ids: The group each image belongs to; any integers, any order, ``(b,)``.
        scale: Standard deviation that divides.
        eps: Added to the standard deviation, in reward units.

    Returns:
        Unitless advantages, fp32, ``(b,)``, in the order of ``rewards``.
    """
    values = rewards.cpu().double()  # few numbers, and not every accelerator has fp64
    finite = values.isfinite()
    _, place = torch.unique(group_ids.cpu(), return_inverse=True)
    weight = finite.double()
    values = torch.where(finite, values, 0.0)
    size = int(place.max()) + 1 if len(place) else 0

    def per_group(terms: Tensor) -> Tensor:
        return torch.zeros(size, dtype=torch.float64, device=terms.device).index_add_(0, place, terms)

    count = per_group(weight).clamp(min=1)
    centred = (values - (per_group(values) / count)[place]) * weight
    std = (per_group(centred.square()) / count).sqrt()[place]
    tied = std <= 1e-9 * (1 + values.abs())
    if scale == "batch":
        std = values[finite].std(correction=0).expand_as(std) if finite.any() else std
    return torch.where(tied, 0.0, centred / (std + eps)).float().to(rewards.device)


def separate_advantages(
    parts: Mapping[str, Tensor], weights: Mapping[str, float], group_ids: Tensor, *, scale: AdvantageScale = "group"
) -> Tensor:
    """Turn each part of a weighted reward into advantages by itself and add them up, each by its weight, ``(b,)``.

    A part then counts by how it ranks images, not by how far its scores spread (MixGRPO, arXiv:2507.21802).

    Args:
        parts: Scores of each part, ``(b,)``.
        weights: Of each part.
        group_ids: As in ``group_advantages``.
        scale: As in ``group_advantages``.
    """
    shares = [weights[name] * group_advantages(scores, group_ids, scale=scale) for name, scores in parts.items()]
    return torch.stack(shares).sum(dim=0)
