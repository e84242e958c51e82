"""Data parallelism: each process samples a part of every iteration, and all agree on the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs
from accelerate.utils import ProjectConfiguration
from torch import Tensor

from pamela_rl.algorithms.advantages import group_advantages, separate_advantages
from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.loading import DTYPES, load_pipeline, prepare_policy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.training.health import PRECISIONS, Thresholds
from pamela_rl.training.trackers import check_trackers
from pamela_rl.types import RewardOutput

_FREED = 1e-2  # how far off the policy that sampled may be where ratios do not start from its log-probabilities


def check_processes(accelerator: Accelerator, config: TrainConfig) -> None:
    """Refuse an unsupported precision, and a number of images that does not divide.

    Raises:
        ConfigError: Names the nearest numbers that divide.
    """
    if accelerator.mixed_precision not in PRECISIONS:
        raise ConfigError(
            f"mixed_precision is {accelerator.mixed_precision!r}, for which gradients would need scaling; use one of "
            f"{', '.join(PRECISIONS)}."
        )
    count, images = accelerator.num_processes, config.images_per_iteration
    if images % count:
        unit = math.lcm(count, config.group_size)
        fitting = sorted({max(unit, images // unit * unit), -(-images // unit) * unit})
        raise ConfigError(
            f"images_per_iteration is {images} but there are {count} processes; use a multiple of {unit}, "
            f"e.g. {' or '.join(map(str, fitting))}."
        )


def check_precision(accelerator: Accelerator, policy: Policy) -> None:
    """Refuse a precision that the device has no units for.

    Raises:
        ConfigError: Names the precision, the device and what to use.
    """
    wants_bf16 = policy.dtype == torch.bfloat16 or accelerator.mixed_precision == "bf16"
    if policy.device.type == "cuda" and wants_bf16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        card = torch.cuda.get_device_name(policy.device)
        raise ConfigError(
            f"the precision is bf16, which {card} only emulates; use float32 for the model and mixed_precision 'no'."
        )


def mismatch_thresholds(
    accelerator: Accelerator, policy: Policy, algorithm: Algorithm, config: TrainConfig
) -> Thresholds:
    """How far ratios may be from 1 before the first update: as set, else 0 where rounding depends on a call's shape alone.

    Where sampling is freed, ratios start from training's own log-probabilities; what is left is how far off the policy was
    that sampled.
    """
    full = accelerator.mixed_precision == "no" and policy.dtype == torch.float32
    alike = config.sampled_at_once == config.batch_size and not policy.compiled
    most = _FREED if algorithm.frees_sampling(config) else algorithm.ratio_tolerance
    if full and policy.device.type == "cpu" and (alike or not algorithm.frees_sampling(config)):
        most = 0.0
    warn, stop = config.mismatch.warn, config.mismatch.stop
    return Thresholds(most / 10 if warn is None else warn, max(most, warn or 0.0) if stop is None else stop)


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


@dataclass(frozen=True)
class Shares:
    """Which process samples which images of an iteration: blocks of one denoiser call, dealt out in turn.

    An update then sees about as many calls on every process, and a block makes the same call on one process and on many.

    Attributes:
        accelerator: Of the run.
        image_ids: One row a process, ``(processes, local b)``.
    """

    accelerator: Accelerator
    image_ids: Tensor

    @classmethod
    def of(cls, accelerator: Accelerator, num_images: int, batch_size: int) -> Shares:
        """Deal out images; their number divides by that of the processes."""
        return cls(accelerator, image_shares(num_images, accelerator.num_processes, batch_size))

    @property
    def local_ids(self) -> Tensor:
        """Ids of this process's images, ``(local b,)``."""
        return self.image_ids[self.accelerator.process_index]

    def gather(self, values: Tensor) -> Tensor:
        """Collect one value of each image from all processes, in the order of image ids, ``(b, …)``."""
        gathered = self.accelerator.gather(values)
        ordered = torch.empty_like(gathered)
        ordered[self.image_ids.flatten().to(gathered.device)] = gathered
        return ordered


def image_shares(num_images: int, num_processes: int, batch_size: int) -> Tensor:
    """Deal blocks of ``batch_size`` images out in turn, a smaller one each at the end, ``(processes, local b)``."""
    local = num_images // num_processes
    size = min(batch_size, local)
    whole = local // size * size
    dealt = torch.arange(whole * num_processes).view(-1, num_processes, size).transpose(0, 1)
    rest = torch.arange(whole * num_processes, num_images).view(num_processes, local - whole)
    return torch.cat([dealt.reshape(num_processes, whole), rest], dim=1)


def padded_shares(num_images: int, num_processes: int) -> Tensor:
    """Cut images into equal parts in their order; where they do not divide, the last one is repeated, ``(processes, local b)``."""
    size = -(-num_images // num_processes)
    return torch.arange(size * num_processes).clamp(max=num_images - 1).view(num_processes, size)


def local_advantages(
    shares: Shares, output: RewardOutput, group_ids: Tensor, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Compute the rewards of all processes' images, and the advantages of this process's.

    Args:
        shares: Of the iteration.
        output: The reward of this process's images.
        group_ids: Of all images, ``(b,)``.
        config: Of the run.

    Returns:
        Rewards of all images, ``(b,)``, and advantages of this process's, ``(local b,)``.

    Raises:
        ConfigError: ``separate_parts`` is set but the reward has no parts, or uncertainty would be subtracted from their sum.
    """
    settings = config.advantages
    rewards = shares.gather(output.lower_confidence_bound(config.reward.std_weight))
    groups = group_ids.to(rewards.device)
    if settings.separate_parts:
        if not output.parts or output.weights is None:
            raise ConfigError("advantages.separate_parts is set, but the reward has no parts; give a weighted reward.")
        if config.reward.std_weight and output.std is not None:
            raise ConfigError(
                f"advantages.separate_parts compares parts by themselves, but reward.std_weight is {config.reward.std_weight}, "
                "which is subtracted from their sum; set reward.std_weight to 0."
            )
        parts = {name: shares.gather(scores.float()) for name, scores in output.parts.items()}
        advantages = separate_advantages(parts, output.weights, groups, scale=settings.scale)
    else:
        advantages = group_advantages(rewards, groups, scale=settings.scale)
    advantages = torch.where(rewards.isfinite(), advantages, 0.0)  # a part may be finite where the sum is not
    local = advantages[shares.local_ids.to(advantages.device)].clamp(-settings.clip, settings.clip)
    return rewards, torch.zeros_like(local) if settings.zero else local


def mean_over_processes(shares: Shares, scores: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean of each score over all processes' images, as ``rollout/<name>_mean``; values that are NaN are left out."""
    return {f"rollout/{name}_mean": float(shares.gather(values.float()).nanmean()) for name, values in scores.items()}


def new_accelerator(folder: Path, trackers: Sequence[str] = ()) -> Accelerator:
    """Make the accelerator; processes wait for a late one for two hours, since fitting rewards or saving may take long.

    A process that dies is another matter: the launcher ends the others at once.

    Args:
        folder: The run's; tensorboard's files go into ``logs/`` there.
        trackers: Besides the run's own record.

    Raises:
        ConfigError: A tracker is not known or not installed.
    """
    check_trackers(trackers)
    return Accelerator(
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
    )


def open_policy(model: ModelSettings, accelerator: Accelerator) -> Policy:
    """Load the base model onto the accelerator's device, cut over its processes where FSDP is configured.

    A process then reads its share of the denoiser alone.

    Raises:
        ConfigError: There is no such pipeline, no family knows it, or it cannot do what the settings ask.
    """
    shard = model.shard or accelerator.distributed_type == DistributedType.FSDP
    pipeline = load_pipeline(model.name, dtype=DTYPES[model.dtype], config=model.config, to_shard=shard)
    return prepare_policy(pipeline, replace(model, shard=shard), accelerator.device)
