"""How far the policy stands from the reference, adapter off, at the steps of a trajectory."""

from __future__ import annotations

import torch
from torch import Tensor

from pamela_rl.config import SamplingConfig
from pamela_rl.diffusion.batching import predict_in_batches
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.types import Trajectory


@torch.no_grad()
def kl_to_reference(policy: Policy, trajectory: Trajectory, sampling: SamplingConfig, batch_size: int) -> Tensor:
    """Return the KL divergence of one denoising step to the base model, *mean over latent dimensions*, ``(b,)``.

    Args:
        policy: Its adapter on.
        trajectory: Whose kept steps are measured, and averaged over.
        sampling: The noise a step is measured with, which may be another than it was drawn with.
        batch_size: Images in one denoiser call.
    """
    schedule = schedule_of(policy, sampling).to(policy.device)
    conditioning = trajectory.conditioning[trajectory.prompt_index]
    divergences = []
    for slot in range(trajectory.step_index.shape[1]):
        step, latents = trajectory.step_index[:, slot], trajectory.latents[:, slot]
        inputs = (
            latents, schedule.timesteps[step], conditioning, trajectory.negative, sampling.guidance_scale, batch_size
        )  # fmt: skip
        now = schedule.transition(predict_in_batches(policy, *inputs), latents, step)
        with adapter_off(policy):
            reference = schedule.transition(predict_in_batches(policy, *inputs), latents, step)
        divergences.append(now.kl(reference))
    return torch.stack(divergences).mean(dim=0)
