"""Data parallelism: each process samples a contiguous part of every iteration, and all agree on the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.advantages import group_advantages, separate_advantages
from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import IMAGES_PER_PROMPT, TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.errors import ConfigError
from pamela_rl.training.health import PRECISIONS
from pamela_rl.types import PromptBatch, RewardOutput


def check_processes(accelerator: Accelerator, config: TrainConfig) -> None:
    """Refuse an unsupported precision, and numbers of images that do not divide.

    Raises:
        ConfigError: Names the nearest numbers that divide.
    """
    if accelerator.mixed_precision not in PRECISIONS:
        raise ConfigError(f"mixed_precision is {accelerator.mixed_precision!r}; use one of {', '.join(PRECISIONS)}.")
    count = accelerator.num_processes
    shared = {"images_per_iteration": (config.images_per_iteration, config.group_size)}
    if config.validation.every:
        shared["validation.num_images"] = (config.validation.num_images, IMAGES_PER_PROMPT)
    for name, (images, group) in shared.items():
        if images % count:
            unit = math.lcm(count, group)
            fitting = sorted({max(unit, images // unit * unit), -(-images // unit) * unit})
            raise ConfigError(
                f"{name} is {images} but there are {count} processes; use a multiple of {unit}, "
                f"e.g. {' or '.join(map(str, fitting))}."
            )


def ratio_tolerance(accelerator: Accelerator, policy: Policy, algorithm: Algorithm) -> float:
    """Largest distance of the ratio from 1 before the first update: 0 where rounding depends on the call's shape alone."""
    full = accelerator.mixed_precision == "no" and policy.dtype == torch.float32
    if full:
        return 0.0 if policy.device.type == "cpu" else algorithm.ratio_tolerance / 10
    return algorithm.ratio_tolerance


def check_run(policy: Policy, config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuse a config the algorithm cannot train with, and more trained steps than have noise at the policy's levels.

    Raises:
        ConfigError: Names what does not fit and what would.
    """
    algorithm.check(config)
    seen = set()
    for iteration in range(config.num_iterations):
        sampling = algorithm.sampling(config, iteration)
        if sampling.window not in seen:
            seen.add(sampling.window)
            algorithm.check_schedule(config, schedule_of(policy, sampling))


def local_batch(whole: PromptBatch, accelerator: Accelerator) -> PromptBatch:
    """The images this process samples: a contiguous part, so that gathering restores the order."""
    size = len(whole) // accelerator.num_processes
    return whole[accelerator.process_index * size : (accelerator.process_index + 1) * size]


def local_advantages(
    accelerator: Accelerator, output: RewardOutput, whole: PromptBatch, batch: PromptBatch, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Compute the rewards of all processes' images, and the advantages of this process's.

    Args:
        accelerator: Of the run.
        output: The reward of this process's images.
        whole: Of all processes.
        batch: Of this process.
        config: Of the run.

    Returns:
        Rewards of all images, ``(b,)``, and advantages of this process's, ``(local b,)``.

    Raises:
        ConfigError: ``separate_parts`` is set but the reward has no parts, or uncertainty would be subtracted from their sum.
    """
    settings = config.advantages
    rewards = accelerator.gather(output.lower_confidence_bound(config.reward.std_weight))
    groups = whole.group_ids.to(rewards.device)
    if settings.separate_parts:
        if not output.parts or output.weights is None:
            raise ConfigError("advantages.separate_parts is set, but the reward has no parts; give a weighted reward.")
        if config.reward.std_weight and output.std is not None:
            raise ConfigError(
                f"advantages.separate_parts compares parts by themselves, but reward.std_weight is {config.reward.std_weight}, "
                "which is subtracted from their sum; set reward.std_weight to 0."
            )
        parts = {name: accelerator.gather(scores.float()) for name, scores in output.parts.items()}
        advantages = separate_advantages(parts, output.weights, groups, scale=settings.scale)
    else:
        advantages = group_advantages(rewards, groups, scale=settings.scale)
    advantages = torch.where(rewards.isfinite(), advantages, 0.0)  # a part may be finite where the sum is not
    local = advantages[batch.image_ids.to(advantages.device)].clamp(-settings.clip, settings.clip)
    return rewards, torch.zeros_like(local) if settings.zero else local


def mean_over_processes(accelerator: Accelerator, scores: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of each score over all processes' images, as ``rollout/<name>_mean``; values that are NaN are left out."""
    return {
        f"rollout/{name}_mean": float(accelerator.gather(values.float()).nanmean()) for name, values in scores.items()
    }
