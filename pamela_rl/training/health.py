"""Health checks of a run: finite images, rewards and gradients, and ratios that start at 1."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pamela_rl.algorithms.updates import MISMATCH
from pamela_rl.errors import TrainingError

PRECISIONS = ("no", "bf16")  # mixed precision that accelerate may be asked for
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thresholds:
    """How far ratios may be from 1 before an iteration's first update.

    Attributes:
        warn: Above this a warning is logged.
        stop: Above this the run stops.
    """

    warn: float
    stop: float


def finite_images(images: Tensor) -> Tensor:
    """Tell which images, ``(b, 3, h, w)``, are finite, ``(b,)``."""
    return images.isfinite().flatten(1).all(dim=1)


def summary(rewards: Tensor, finite: Tensor) -> dict[str, float]:
    """Summarise an iteration's rewards, ``(b,)``; those that are not finite are counted and left out.

    Args:
        rewards: Of all images, ``(b,)``.
        finite: Which images are finite, ``(b,)``.
    """
    valid = rewards[rewards.isfinite()]
    bad = len(rewards) - len(valid)
    mean, std = (valid.mean().item(), valid.std(correction=0).item()) if len(valid) else (math.nan, math.nan)
    spread = {"rollout/reward_mean": mean, "rollout/reward_std": std}
    shares = {
        "rollout/bad_reward_share": bad / len(rewards),
        "rollout/bad_image_share": 1 - float(finite.float().mean()),
    }
    return spread | {"rollout/bad_rewards": float(bad)} | shares


def check_health(metrics: Mapping[str, float], max_bad_share: float, thresholds: Thresholds) -> None:
    """Stop a run whose images, rewards, gradients or ratios are broken; the state before it stays saved.

    Args:
        metrics: Of the iteration.
        max_bad_share: Highest share of bad images, bad rewards or skipped updates.
        thresholds: Of ratios before the first update.

    Raises:
        TrainingError: Too many images, rewards or gradients are not finite, or sampling and training disagree.
    """
    shares = {
        "images are not finite, whatever the reward; the model overflows in this precision or at this scheduler's levels: use "
        "bfloat16 or float32, or a VAE made for half precision": metrics["rollout/bad_image_share"],
        "rewards are not finite; look at the reward model": metrics["rollout/bad_reward_share"],
        "updates had gradients that are not finite; lower the algorithm's learning_rate": (
            metrics["train/skipped_updates"] / metrics["train/updates"]
        ),
    }
    for sentence, share in shares.items():
        if share > max_bad_share:
            raise TrainingError(
                f"{share:.0%} of this iteration's {sentence} (allowed: {max_bad_share:.0%}, reward.max_bad_share). "
                "The state before is in the checkpoint; the same command goes on from there."
            )
    error = metrics.get(MISMATCH, 0.0)  # not every algorithm has a ratio
    if error > thresholds.stop:  # NaN has no finite gradient either: that update was skipped, and counts above
        raise TrainingError(
            f"ratios before the first update are off by {error:.2g} (allowed: {thresholds.stop:.2g}): sampling and training "
            "compute the same step differently, so gradients would be wrong. Something changed the denoiser between them, or "
            "a kernel differs with and without gradients; where that is known and small, allow it with train.mismatch.stop."
        )
    if error > thresholds.warn:
        logger.warning(
            "Ratios before the first update are off by %.2g (train.mismatch.warn is %.2g): sampling and training round "
            "differently.", error, thresholds.warn,
        )  # fmt: skip
