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
class Part:
    """One reward of a sum.

    Attributes:
        reward: What scores.
        weight: Of the normalised score; negative to push it down.
        mean: Of the reward's scores on reference pictures, in its own units.
        std: Their standard deviation, same units.
    """

    reward: Reward
    weight: float
    mean: float
    std: float


class WeightedReward:
    """The sum of ``weight * (score - mean) / std`` over its parts: a weight of 1 counts one spread of the reference.

    Means and spreads are measured once and stay as they are. Were they to follow the pictures of the run, a reward that
    rises would be set back to 0 while it rises, and a part that all pictures fulfil would be blown up to noise.
    """

    def __init__(self, parts: Mapping[str, Part]):
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
        """Measure each reward's mean and spread on reference pictures, e.g. the base model's of the training prompts.

        A run that goes on must do so with the same numbers: the same reference, or the ``parts`` it had.

        Args:
            rewards: Reward and weight by name.
            images: RGB in [0, 1], ``(n, 3, height, width)``.
            prompts: What was asked for, one a picture.
            user_ids: For whom, one a picture.
            batch_size: Pictures scored at a time.

        Raises:
            ConfigError: A reward scores all of them alike, or some not with a finite number.
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
            parts[name] = Part(reward, weight, float(scores.mean()), float(scores.std(correction=0)))
        return cls(parts)

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score pictures.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: What was asked for, one a picture.
            user_ids: For whom, one a picture.

        Returns:
            The sum, and every part's normalised score before it is weighted, ``(b,)``. A part that is no number makes
            the sum none for that picture. ``std`` is the root of the summed squares of the parts' own, weighted alike,
            as if their errors were independent and parts that give none were certain; None where no part gives one.
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


def _check(name: str, part: Part) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ConfigError(f"a reward is called {name!r}; metrics bear its name: use letters, digits, '_', '.' and '-'.")
    if not math.isfinite(part.weight) or part.weight == 0:
        raise ConfigError(
            f"the weight of reward {name!r} is {part.weight}; use a finite number other than 0, "
            "and to watch a reward without training on it give it to train as a monitor."
        )
    if not math.isfinite(part.mean):
        raise ConfigError(f"the mean of reward {name!r} is {part.mean}; use that of its scores on reference pictures.")
    if not (math.isfinite(part.std) and part.std > 1e-6 * abs(part.mean)):  # below, fp32 rounding is all there is
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
    return torch.cat([trainable(reward(images[b], prompts[b], user_ids[b])).mean.double().cpu() for b in batches])
