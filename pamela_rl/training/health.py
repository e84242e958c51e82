"""Health checks of a run: finite rewards and gradients, and a ratio that starts at 1."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from pamela_rl.errors import TrainingError

PRECISIONS = ("no", "bf16")  # mixed precision that accelerate may be asked for


def summary(rewards: Tensor) -> dict[str, float]:
    """Summarise an iteration's rewards, ``(b,)``; those that are not finite are counted and left out."""
    finite = rewards[rewards.isfinite()]
    bad = len(rewards) - len(finite)
    mean, std = (finite.mean().item(), finite.std(correction=0).item()) if len(finite) else (math.nan, math.nan)
    spread = {"rollout/reward_mean": mean, "rollout/reward_std": std}
    return spread | {"rollout/bad_rewards": float(bad), "rollout/bad_reward_share": bad / len(rewards)}


def check_health(metrics: Mapping[str, float], max_bad_share: float, tolerance: float) -> None:
    """Stop a run whose rewards, gradients or ratios are broken; the state before it stays saved.

    Args:
        metrics: Of the iteration.
        max_bad_share: Highest share of bad rewards or skipped updates.
        tolerance: How far the ratio may be from 1 before the first update.

    Raises:
        TrainingError: Too many rewards or gradients are not finite, or sampling and training disagree.
    """
    shares = {
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
    error = metrics.get("train/ratio_max_error", 0.0)  # not every algorithm has a ratio
    if error > tolerance:  # NaN has no finite gradient either: that update was skipped, and counts above
        raise TrainingError(
            f"the ratio before the first update is off by {error:.2g} (allowed: {tolerance:.2g}): sampling and training "
            "disagree about the same step, so gradients would be wrong. Something changed the denoiser between them."
        )
