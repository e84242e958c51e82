"""THE LOOP: act, judge, credit, learn, record."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.advantages import group_advantages
from pamela_rl.algorithms.ddpo import ddpo_update
from pamela_rl.checkpoint import (
    Checkpoint,
    claim,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state, add_adapter, load_adapter_state
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError, TrainingError
from pamela_rl.looks import Looks
from pamela_rl.storage import ensure_writable, folder_name
from pamela_rl.tracking import RunLog
from pamela_rl.types import PromptBatch, Reward, RewardOutput, Scorer, Trajectory, Verdict, trainable

RATIO_TOLERANCE = {"no": 0.0, "bf16": 0.05}  # of the ratio before the first update


def train(
    policy: Policy,
    reward: Reward,
    prompts: PromptSource,
    config: TrainConfig,
    folder: Path,
    accelerator: Accelerator,
    monitors: Mapping[str, Scorer] | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """Tune a fresh adapter on the policy to one person, or go on where ``folder`` stopped.

    Args:
        policy: The pipeline; the adapter stays on it, active, when the call returns.
        reward: What is maximised.
        prompts: Of one person.
        config: Everything else about the run.
        folder: The person's own folder: ``run.json``, ``metrics.jsonl``, ``looks.jsonl``, ``checkpoint/`` and ``best/``.
        accelerator: Devices, processes, mixed precision.
        monitors: What is only watched, by name, e.g. ``judge``.
        facts: What must not change under a run, e.g. the base model's and the reward's names.

    Returns:
        The adapter's name on the denoiser.

    Raises:
        ConfigError: Precision or number of processes do not fit, the reward is a judge, or there is none to stop by.
        CheckpointError: ``folder`` holds another run.
        TrainingError: Too many rewards or gradients are not finite; the last good state is saved.
    """
    _check_processes(accelerator, config)
    user, name = prompts.user_id, folder_name(prompts.user_id)
    if accelerator.is_main_process:
        claim(ensure_writable(folder), config, {"user_id": user, **(facts or {})})
    accelerator.wait_for_everyone()
    optimizer, done, counters = _resume(policy, name, config, folder)
    run = RunLog(folder / "metrics.jsonl", done, accelerator.is_main_process)
    watched_by = dict(monitors or {})
    looks = Looks(policy, name, {"reward": reward, **watched_by}, prompts, config, folder, done, accelerator)
    looks.take(done, kl=0.0)

    for iteration in run.iterations(done, config.num_iterations, user):
        if looks.exhausted():
            break
        started = time.monotonic()
        whole = prompts.draw(iteration, config.prompts_per_iteration, config.group_size, config.seed)
        batch = _share(whole, accelerator)
        with accelerator.autocast():
            trajectory = rollout(policy, batch, config.sampling, config.seed, iteration, config.batch_size)  # act
        output = trainable(_score(reward, trajectory, batch))
        rewards = accelerator.gather(output.cautious(config.reward.std_weight))  # judge
        advantages = _credit(rewards, whole, batch, config.ddpo.zero_advantages)  # credit
        stats = ddpo_update(accelerator, policy, optimizer, trajectory, advantages, config, iteration)  # learn
        watched = {f"reward_{part}": values for part, values in (output.parts or {}).items()}
        watched |= {name: _score(model, trajectory, batch).mean for name, model in watched_by.items()}
        metrics = _summary(rewards) | stats | {f"rollout/{n}_mean": _mean(accelerator, v) for n, v in watched.items()}
        metrics["time/images_per_second"] = len(rewards) / (time.monotonic() - started)
        run.log(iteration, metrics)  # record
        for counted in counters:
            counters[counted] += int(metrics[counted])
        _check_health(metrics, config.reward.max_bad_share, RATIO_TOLERANCE[accelerator.mixed_precision])
        looks.take(iteration + 1, metrics["train/kl_to_reference"])
        if accelerator.is_main_process and _is_due(iteration + 1, config):
            state = Checkpoint(iteration + 1, adapter_state(policy, name), optimizer_tensors(optimizer), counters)
            save_checkpoint(folder / "checkpoint", state)
    looks.restore_best()
    accelerator.wait_for_everyone()
    return name


def _check_processes(accelerator: Accelerator, config: TrainConfig) -> None:
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


def _resume(
    policy: Policy, name: str, config: TrainConfig, folder: Path
) -> tuple[torch.optim.Optimizer, int, dict[str, int]]:
    """Put the adapter on, with the weights, optimizer and counters of the last checkpoint if there is one."""
    weights = add_adapter(policy, name, config.lora, config.seed)
    optimizer = torch.optim.AdamW(weights, lr=config.ddpo.learning_rate, weight_decay=config.ddpo.weight_decay)
    counters = {"rollout/bad_rewards": 0, "train/skipped_updates": 0}
    saved = load_checkpoint(folder / "checkpoint")
    if saved is None:
        return optimizer, 0, counters
    load_adapter_state(policy, name, saved.adapter)
    restore_optimizer(optimizer, saved.optimizer)
    return optimizer, saved.iteration, counters | saved.counters


def _share(whole: PromptBatch, accelerator: Accelerator) -> PromptBatch:
    """The pictures this process draws: a contiguous share, so that gathering restores the order."""
    size = len(whole) // accelerator.num_processes
    return whole[accelerator.process_index * size : (accelerator.process_index + 1) * size]


@torch.no_grad()
def _score(model: Scorer, trajectory: Trajectory, batch: PromptBatch) -> RewardOutput | Verdict:
    return model(trajectory.images, batch.prompts, batch.user_ids)


def _credit(rewards: Tensor, whole: PromptBatch, batch: PromptBatch, zero: bool) -> Tensor:
    """The advantages of this process's pictures, from everybody's rewards; all zero in the control experiment."""
    advantages = group_advantages(rewards, whole.group_ids.to(rewards.device))
    mine = advantages[batch.image_ids.to(advantages.device)]
    return torch.zeros_like(mine) if zero else mine


def _mean(accelerator: Accelerator, values: Tensor) -> float:
    return float(accelerator.gather(values.float()).nanmean())


def _summary(rewards: Tensor) -> dict[str, float]:
    finite = rewards[rewards.isfinite()]
    bad = len(rewards) - len(finite)
    mean, std = (finite.mean().item(), finite.std(correction=0).item()) if len(finite) else (math.nan, math.nan)
    spread = {"rollout/reward_mean": mean, "rollout/reward_std": std}
    return spread | {"rollout/bad_rewards": float(bad), "rollout/bad_reward_share": bad / len(rewards)}


def _check_health(metrics: dict[str, float], max_bad_share: float, tolerance: float) -> None:
    """Stop a run that learns from noise; the checkpoint before stays."""
    shares = {
        "rewards are not finite; look at the reward model": metrics["rollout/bad_reward_share"],
        "updates had gradients that are not finite; lower ddpo.learning_rate": (
            metrics["train/skipped_updates"] / metrics["train/updates"]
        ),
    }
    for sentence, share in shares.items():
        if share > max_bad_share:
            raise TrainingError(
                f"{share:.0%} of this iteration's {sentence} (allowed: {max_bad_share:.0%}, reward.max_bad_share). "
                "The last good state is in the checkpoint; the same command goes on from there."
            )
    error = metrics["train/ratio_max_error"]
    if error > tolerance:
        raise TrainingError(
            f"the ratio before the first update is off by {error:.2g} (allowed: {tolerance}): sampling and training "
            "disagree about the same step, so gradients would be wrong. Something changed the denoiser between them."
        )


def _is_due(done: int, config: TrainConfig) -> bool:
    return done % config.checkpoint_every == 0 or done == config.num_iterations
