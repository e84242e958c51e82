"""How processes share one run: each draws a contiguous part of every iteration, and all agree on the whole."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.advantages import group_advantages
from pamela_rl.config import TrainConfig
from pamela_rl.errors import ConfigError
from pamela_rl.health import RATIO_TOLERANCE
from pamela_rl.types import PromptBatch


def check_processes(accelerator: Accelerator, config: TrainConfig) -> None:
    """Refuse a precision that is not known, and numbers of pictures that do not divide.

    Raises:
        ConfigError: Names the nearest numbers that do.
    """
    if accelerator.mixed_precision not in RATIO_TOLERANCE:
        raise ConfigError(
            f"mixed_precision is {accelerator.mixed_precision!r}; use one of {', '.join(RATIO_TOLERANCE)}."
        )
    count = accelerator.num_processes
    shared = {"images_per_iteration": config.images_per_iteration, "looks.num_images": config.looks.num_images}
    for name, images in shared.items():
        if images % count:
            raise ConfigError(
                f"{name} is {images} but there are {count} processes; use a multiple of {count}, "
                f"e.g. {images // count * count or count} or {-(-images // count) * count}."
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
