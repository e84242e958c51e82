"""How processes share one run: each draws a contiguous part of every iteration, and all agree on the whole."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.advantages import group_advantages
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.errors import ConfigError
from pamela_rl.health import PRECISIONS
from pamela_rl.types import PromptBatch


def check_processes(accelerator: Accelerator, config: TrainConfig) -> None:
    """Refuse a precision that is not known, and numbers of pictures that do not divide.

    Raises:
        ConfigError: Names the nearest numbers that do.
    """
    if accelerator.mixed_precision not in PRECISIONS:
        raise ConfigError(f"mixed_precision is {accelerator.mixed_precision!r}; use one of {', '.join(PRECISIONS)}.")
    count = accelerator.num_processes
    shared = {"images_per_iteration": config.images_per_iteration}
    if config.looks.every:
        shared["looks.num_images"] = config.looks.num_images
    for name, images in shared.items():
        if images % count:
            raise ConfigError(
                f"{name} is {images} but there are {count} processes; use a multiple of {count}, "
                f"e.g. {images // count * count or count} or {-(-images // count) * count}."
            )


def ratio_tolerance(accelerator: Accelerator, policy: Policy, config: TrainConfig) -> float:
    """How far the ratio may be from 1 before the first update: not at all where every kernel rounds by its shape alone."""
    full = accelerator.mixed_precision == "no" and policy.dtype == torch.float32
    if full:
        return 0.0 if policy.device.type == "cpu" else config.ddpo.clip_range / 10
    return config.ddpo.clip_range


def check_steps(policy: Policy, config: TrainConfig) -> None:
    """Refuse to train more steps than have noise at the policy's own noise levels.

    Raises:
        ConfigError: Names how many there are.
    """
    possible, asked = len(schedule_of(policy, config.sampling).trainable_steps()), config.sampling.train_steps
    if asked > possible:
        raise ConfigError(
            f"sampling.train_steps is {asked} but only {possible} of the {config.sampling.num_inference_steps} steps have "
            f"noise (the last one may have none): use 1 to {possible}."
        )


def own_share(whole: PromptBatch, accelerator: Accelerator) -> PromptBatch:
    """The pictures this process draws: a contiguous part, so that gathering restores the order."""
    size = len(whole) // accelerator.num_processes
    return whole[accelerator.process_index * size : (accelerator.process_index + 1) * size]


def own_advantages(rewards: Tensor, whole: PromptBatch, batch: PromptBatch, zero: bool) -> Tensor:
    """The advantages of this process's pictures, from everybody's rewards; all zero in the control experiment.

    Args:
        rewards: Of all processes' pictures, ``(b,)``.
        whole: All processes' pictures.
        batch: This process's.
        zero: Whether to forget the rewards.
    """
    advantages = group_advantages(rewards, whole.group_ids.to(rewards.device))
    mine = advantages[batch.image_ids.to(advantages.device)]
    return torch.zeros_like(mine) if zero else mine


def means(accelerator: Accelerator, watched: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean over everybody's pictures of each score, under ``rollout/<name>_mean``; what is no number is left out."""
    return {
        f"rollout/{name}_mean": float(accelerator.gather(values.float()).nanmean()) for name, values in watched.items()
    }
