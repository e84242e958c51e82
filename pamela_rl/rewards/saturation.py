"""Predicted ratings that stay on their scale: the expectation of a rating cut off at the scale's ends."""

from __future__ import annotations

import math

import torch

from pamela_rl.data.ratings import RatingScale
from pamela_rl.types import RewardOutput


def saturated(output: RewardOutput, scale: RatingScale) -> RewardOutput:
    """Return mean and std of ``clip(rating, low, high)`` for a normal rating of the given mean and std.

    Nobody rates above the highest rating, so there is nothing to gain beyond it: the mean rises with the prediction ever
    less, and the less of it is certain, the sooner. Gradients pass.

    Args:
        output: Predictions, ``(b,)``, without parts; a std of None counts as 0.
        scale: Of the ratings.
    """
    mean = output.mean.double()
    if output.std is None:
        return RewardOutput(mean.clamp(scale.low, scale.high).to(output.mean))
    std = output.std.double().clamp(min=1e-6)
    low, high = (scale.low - mean) / std, (scale.high - mean) / std
    below, above = torch.special.ndtr(low), torch.special.ndtr(-high)
    inside = 1 - below - above
    at_low, at_high = (torch.exp(-0.5 * end.square()) / math.sqrt(2 * math.pi) for end in (low, high))
    # moments of the deviation from the mean, in stds; the ends are where all beyond them lies
    first = low * below + high * above + at_low - at_high
    second = low.square() * below + high.square() * above + inside + low * at_low - high * at_high
    spread = (second - first.square()).clamp(min=1e-12).sqrt()
    return RewardOutput((mean + std * first).to(output.mean), (std * spread).to(output.mean))
