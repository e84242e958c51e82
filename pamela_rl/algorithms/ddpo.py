"""Learn: importance-sampled, clipped DDPO (Black et al., arXiv:2305.13301) with a KL to the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.diffusion.batching import padded_rows
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.transitions import Normal
from pamela_rl.types import Trajectory


def clipped_loss(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """PPO's pessimistic objective, negated to be minimised, elementwise, ``(b,)``."""
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


@dataclass(frozen=True)
class _Pairs:
    """The flat batch of (image, step) pairs an update sees; pair p is image ``image[p]`` at trained step ``slot[p]``."""

    image: Tensor
    slot: Tensor

    def __len__(self) -> int:
        return len(self.image)


def _shuffled_pairs(trajectory: Trajectory, generator: torch.Generator) -> _Pairs:
    images, steps = trajectory.step_index.shape
    order = torch.randperm(images * steps, generator=generator).to(trajectory.step_index.device)
    return _Pairs(image=order // steps, slot=order % steps)


def _transition(
    policy: Policy, trajectory: Trajectory, pairs: _Pairs, rows: Tensor, sampling: SamplingConfig
) -> tuple[Normal, Tensor]:
    """The current distribution of the next latents of some pairs, and the next latents that were drawn."""
    image, slot = pairs.image[rows], pairs.slot[rows]
    schedule = policy.schedule(sampling.num_inference_steps, sampling.eta)
    step = trajectory.step_index[image, slot]
    latents = trajectory.latents[image, slot]
    negative = trajectory.negative_prompt_embeds
    output = policy.predict(
        latents,
        schedule.timesteps[step],
        trajectory.prompt_embeds[image],
        None if negative is None else negative[image],
        sampling.guidance_scale,
    )
    return schedule.transition(output, latents, step), trajectory.next_latents[image, slot]


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
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + iteration)
    for _ in range(config.ddpo.num_inner_epochs):
        pairs = _shuffled_pairs(trajectory, generator)
        size = len(pairs) // config.ddpo.num_updates
        for first in range(0, len(pairs), size):
            part = _Pairs(pairs.image[first : first + size], pairs.slot[first : first + size])
            stats = _accumulate(accelerator, policy, trajectory, part, advantages, config)
            if updates == 0:
                totals["train/ratio_max_error"] = stats["ratio_max_error"]
            norm = _clipped_norm(accelerator, parameters, config.ddpo.max_grad_norm)
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


def _clipped_norm(accelerator: Accelerator, parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)


def _accumulate(
    accelerator: Accelerator,
    policy: Policy,
    trajectory: Trajectory,
    pairs: _Pairs,
    advantages: Tensor,
    config: TrainConfig,
) -> dict[str, float]:
    """Add up the gradients of one update, call by call, and return the mean of each statistic over its pairs."""
    totals: dict[str, float] = defaultdict(float)
    ddpo, sampling = config.ddpo, config.sampling
    for rows, real in padded_rows(len(pairs), config.batch_size, pairs.image.device):
        with accelerator.autocast():
            transition, drawn = _transition(policy, trajectory, pairs, rows, sampling)
        image, slot = pairs.image[rows], pairs.slot[rows]
        log_ratio = (transition.log_prob(drawn) - trajectory.log_probs[image, slot])[:real]
        ratio = log_ratio.exp()
        advantage = advantages[image][:real].clamp(-ddpo.advantage_clip, ddpo.advantage_clip)
        loss = clipped_loss(ratio, advantage, ddpo.clip_range)
        if ddpo.kl_weight > 0 or not totals:  # without a weight one call is enough to watch it
            with torch.no_grad(), adapter_off(policy), accelerator.autocast():
                reference, _ = _transition(policy, trajectory, pairs, rows, sampling)
            kl = transition.kl(reference)[:real]
            loss = loss + ddpo.kl_weight * kl
            totals["kl_to_reference"] += kl.detach().sum().item()
            totals["kl_pairs"] += real
        accelerator.backward(loss.sum() / len(pairs))
        with torch.no_grad():
            totals["loss"] += loss.sum().item() / len(pairs)
            totals["approx_kl"] += 0.5 * log_ratio.square().sum().item() / len(pairs)
            totals["clip_fraction"] += ((ratio - 1).abs() > ddpo.clip_range).float().sum().item() / len(pairs)
            totals["ratio_max_error"] = max(totals["ratio_max_error"], (ratio - 1).abs().max().item())
    totals["kl_to_reference"] /= totals["kl_pairs"]
    return totals
