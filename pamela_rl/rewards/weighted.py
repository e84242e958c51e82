"""A weighted sum of rewards, each on the same scale."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.types import Reward, RewardOutput, trainable


@dataclass(frozen=True)
class WeightedPart:
    """One reward of a sum.

    Attributes:
        reward: The reward.
        weight: Weight of the normalised score; negative to minimise it.
        mean: Mean score on reference pictures, in the reward's own units.
        std: Their standard deviation, same units.
    """

    reward: Reward
    weight: float
    mean: float
    std: float


class WeightedReward:
    """The sum of ``weight * (score - mean) / std`` over its parts.

    Means and standard deviations are measured once on reference pictures and then fixed. If they followed the pictures
    of the run, a rising reward would be reset to 0, and a part that is constant over pictures would become noise.
    """

    def __init__(self, parts: Mapping[str, WeightedPart]):
        if not parts:
            raise ConfigError("a weighted reward was given no parts; give at least one.")
        for name, part in parts.items():
            _check(name, part)
        self.parts = dict(parts)

    @classmethod
    def calibrated(
        cls,
        rewards: Mapping[str, tuple[Reward, float]],
        images: Tensor,
        prompts: Sequence[str],
        user_ids: Sequence[str],
        batch_size: int = 32,
    ) -> WeightedReward:
        """Measure mean and std of each reward on reference pictures, e.g. of the base model for the training prompts.

        A resumed run needs the same numbers: the same reference pictures, or the same ``parts``.

        Args:
            rewards: Reward and weight by name.
            images: RGB in [0, 1], ``(n, 3, height, width)``.
            prompts: Prompt of each picture.
            user_ids: User of each picture.
            batch_size: Pictures per batch.

        Raises:
            ConfigError: The scores of a reward are all equal, or some are not finite.
        """
        parts = {}
        for name, (reward, weight) in rewards.items():
            scores = _score_all(reward, images, prompts, user_ids, batch_size)
            bad = int((~scores.isfinite()).sum())
            if bad:
                raise ConfigError(
                    f"{bad} of the {len(scores)} scores of reward {name!r} on the reference pictures are not finite; "
                    "look at the reward model, or leave these pictures out."
                )
            parts[name] = WeightedPart(reward, weight, float(scores.mean()), float(scores.std(correction=0)))
        return cls(parts)

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score pictures.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: Prompt of each picture.
            user_ids: User of each picture.

        Returns:
            The sum, and each part's normalised score without its weight, ``(b,)``. If a part is NaN for a picture, so
            is the sum. ``std`` combines the weighted stds of the parts as independent errors; parts without std count
            as 0. It is None if no part has one.
        """
        normalised: dict[str, Tensor] = {}
        sums: list[Tensor] = []
        variances: list[Tensor] = []
        for name, part in self.parts.items():
            output = trainable(part.reward(images, prompts, user_ids))
            normalised[name] = (output.mean - part.mean) / part.std
            sums.append(part.weight * normalised[name])
            if output.std is not None:
                variances.append((part.weight / part.std * output.std).square())
        std = torch.stack(variances).sum(dim=0).sqrt() if variances else None
        weights = {name: part.weight for name, part in self.parts.items()}
        return RewardOutput(torch.stack(sums).sum(dim=0), std, normalised, weights)


def _check(name: str, part: WeightedPart) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ConfigError(f"a reward is called {name!r}; metrics bear its name: use letters, digits, '_', '.' and '-'.")
    if not math.isfinite(part.weight) or part.weight == 0:
        raise ConfigError(
            f"the weight of reward {name!r} is {part.weight}; use a finite number other than 0, "
            "and to watch a reward without training on it give it to train as a monitor."
        )
    if not math.isfinite(part.mean):
        raise ConfigError(f"the mean of reward {name!r} is {part.mean}; use that of its scores on reference pictures.")
    if not (math.isfinite(part.std) and part.std > 1e-6 * abs(part.mean)):  # below, there is only fp32 rounding
        raise ConfigError(
            f"the scores of reward {name!r} have a spread of {part.std:.3g} about {part.mean:.3g} on the reference "
            "pictures, so they cannot be put on a common scale; give pictures that it tells apart, or leave it out."
        )


@torch.no_grad()
def _score_all(
    reward: Reward, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str], batch_size: int
) -> Tensor:
    if not len(images):
        raise ConfigError("there are no reference pictures; give some that each reward tells apart, e.g. 64.")
    starts = range(0, len(images), batch_size)
    batches = [slice(start, start + batch_size) for start in starts]
    return torch.cat([trainable(reward(images[b], prompts[b], user_ids[b])).mean.cpu().double() for b in batches])
