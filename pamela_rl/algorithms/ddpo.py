"""Learn: importance-sampled, clipped DDPO (Black et al., arXiv:2305.13301) with a KL to the reference."""

from __future__ import annotations

from collections import defaultdict

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.gradients import GradientSum
from pamela_rl.algorithms.minibatches import MicroBatch, micro_batches, shuffled_slots
from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.diffusion.transitions import Normal
from pamela_rl.types import Trajectory

_SUMMED = ("loss", "approx_kl", "clip_fraction", "kl_to_reference", "kl_pairs")


def clipped_loss(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """PPO's pessimistic objective, negated to be minimised, elementwise, ``(b,)``."""
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def _transition(
    policy: Policy, trajectory: Trajectory, batch: MicroBatch, sampling: SamplingConfig
) -> tuple[Normal, Tensor]:
    """The current distribution of the next latents of some pairs, and the next latents that were drawn."""
    schedule = schedule_of(policy, sampling)
    step = trajectory.step_index[batch.image, batch.slot]
    latents = trajectory.latents[batch.image, batch.slot]
    told = trajectory.conditioning[trajectory.prompt_index[batch.image]]
    output = policy.predict(latents, schedule.timesteps[step], told, trajectory.negative, sampling.guidance_scale)
    return schedule.transition(output, latents, step), trajectory.next_latents[batch.image, batch.slot]


def ddpo_update(
    accelerator: Accelerator,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    trajectory: Trajectory,
    advantages: Tensor,
    config: TrainConfig,
    iteration: int,
) -> dict[str, float]:
    """Turn one iteration's trajectory into optimizer steps on the adapter.

    An update whose loss or gradient is not finite is skipped and counted.

    Args:
        accelerator: For mixed precision, gradient sums over processes and clipping.
        policy: The pipeline, its adapter on.
        optimizer: Over the adapter's weights.
        trajectory: What the rollout returned.
        advantages: One an image, ``(b,)``.
        config: Clipping, KL weight, number of updates, and the settings the trajectory was drawn with.
        iteration: With the run's seed, fixes the order of the pairs.

    Returns:
        Means over the iteration, keyed ``train/…``; ``train/ratio_max_error`` is before the first update.
    """
    totals: dict[str, float] = defaultdict(float)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    updates = skipped = 0
    for inner_epoch in range(config.ddpo.num_inner_epochs):
        slots = shuffled_slots(trajectory, config.seed, iteration, inner_epoch)
        for update in range(config.ddpo.num_updates):
            gradients = GradientSum(parameters)
            stats = _accumulate(accelerator, policy, trajectory, slots, update, advantages, config, gradients)
            gradients.settle(accelerator)
            if updates == 0:
                totals["train/ratio_max_error"] = stats["ratio_max_error"]
            norm = torch.nn.utils.clip_grad_norm_(parameters, config.ddpo.max_grad_norm)
            if norm.isfinite():
                optimizer.step()
            else:
                skipped += 1
            optimizer.zero_grad(set_to_none=True)
            updates += 1
            for name in ("loss", "approx_kl", "clip_fraction", "kl_to_reference"):
                totals[f"train/{name}"] += stats[name]
            totals["train/grad_norm"] += float(norm)
    averaged = {k: v if k == "train/ratio_max_error" else v / updates for k, v in totals.items()}
    return averaged | {"train/updates": float(updates), "train/skipped_updates": float(skipped)}


def _accumulate(
    accelerator: Accelerator,
    policy: Policy,
    trajectory: Trajectory,
    slots: Tensor,
    update: int,
    advantages: Tensor,
    config: TrainConfig,
    gradients: GradientSum,
) -> dict[str, float]:
    """Add up this process's part of one update's gradient, and return each statistic's mean over all its pairs."""
    ddpo, sampling = config.ddpo, config.sampling
    rows = min(config.batch_size, len(slots))
    num_pairs = config.images_per_iteration * slots.shape[1] // ddpo.num_updates
    sums = torch.zeros(len(_SUMMED), dtype=torch.float64, device=slots.device)
    error = torch.zeros((), device=slots.device)
    for batch in micro_batches(
        trajectory, slots, config.images_per_iteration, update, ddpo.num_updates, rows, policy.sharded
    ):
        with accelerator.autocast():
            transition, drawn = _transition(policy, trajectory, batch, sampling)
        counted = batch.counted
        log_ratio = (transition.log_prob(drawn) - trajectory.log_probs[batch.image, batch.slot])[counted]
        ratio = log_ratio.exp()
        advantage = advantages[batch.image][counted].clamp(-ddpo.advantage_clip, ddpo.advantage_clip)
        loss = clipped_loss(ratio, advantage, ddpo.clip_range)
        kl = ratio.new_zeros(0)
        if ddpo.kl_weight > 0 or policy.sharded or not sums[-1]:  # without a weight one call is enough to watch it
            with torch.no_grad(), adapter_off(policy), accelerator.autocast():
                reference, _ = _transition(policy, trajectory, batch, sampling)
            kl = transition.kl(reference)[counted]
            loss = loss + ddpo.kl_weight * kl
        (loss.sum() / num_pairs).backward()
        gradients.add()
        with torch.no_grad():
            clipped = ((ratio - 1).abs() > ddpo.clip_range).double()
            terms = (loss, 0.5 * log_ratio.square(), clipped, kl, torch.ones_like(kl))
            sums += torch.stack([term.double().sum() for term in terms])
            error = torch.cat([error[None], (ratio - 1).abs()]).max()
    sums = accelerator.reduce(sums, reduction="sum")
    means = sums[:3] / num_pairs
    return dict(zip(_SUMMED, [*means.tolist(), float(sums[3] / sums[4])])) | {
        "ratio_max_error": float(accelerator.gather(error.reshape(1)).max())
    }
