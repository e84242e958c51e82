"""Act: draw pictures with the current policy and keep the steps that will be trained."""

from __future__ import annotations

import torch
from torch import Tensor

from pamela_rl.config import SamplingConfig
from pamela_rl.diffusion.batching import predict
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.transitions import DDIMSchedule
from pamela_rl.types import PromptBatch, Trajectory


def choose_steps(schedule: DDIMSchedule, count: int, generators: list[torch.Generator]) -> Tensor:
    """Choose which steps of each picture are trained, without repeats, in order, ``(b, count)``."""
    possible = schedule.trainable_steps().cpu()
    count = min(count, len(possible))
    drawn = [possible[torch.randperm(len(possible), generator=g)[:count]].sort().values for g in generators]
    return torch.stack(drawn)


def rollout(
    policy: Policy, batch: PromptBatch, config: SamplingConfig, seed: int, iteration: int, batch_size: int
) -> Trajectory:
    """Draw one picture a prompt by stochastic DDIM steps.

    Args:
        policy: The pipeline, its adapter on.
        batch: What to draw.
        config: Steps, noise and guidance.
        seed: Of the run.
        iteration: Of the run; with ``seed`` and a picture's id it fixes all its noise.
        batch_size: Pictures in one denoiser call.
    """
    device = policy.device
    schedule = policy.schedule(config.num_inference_steps, config.eta)
    generators = [generator_for(seed, iteration, image_id) for image_id in batch.image_ids.tolist()]
    chosen = choose_steps(schedule, config.train_steps, generators).to(device)
    embeds = policy.embed(batch.prompts)
    negative = policy.embed([""] * len(batch)) if config.guidance_scale > 1 else None
    latents = policy.initial_latents(generators)
    before, after, log_probs = [], [], []
    with torch.no_grad():
        for step in range(config.num_inference_steps):
            index = torch.full((len(batch),), step, device=device)
            output = predict(
                policy, latents, schedule.timesteps[index], embeds, negative, config.guidance_scale, batch_size
            )
            transition = schedule.transition(output, latents, index)
            noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(device)
            following = transition.sample(noise)
            before.append(latents)
            after.append(following)
            log_probs.append(transition.log_prob(following))  # the last step's may be infinite; it is never trained
            latents = following
        images = torch.cat([policy.decode(part) for part in latents.split(batch_size)])
    return Trajectory(
        image_ids=batch.image_ids.to(device),
        images=images,
        latents=_pick(before, chosen),
        next_latents=_pick(after, chosen),
        step_index=chosen,
        log_probs=_pick(log_probs, chosen),
        prompt_embeds=embeds,
        negative_prompt_embeds=negative,
    )


def _pick(steps: list[Tensor], chosen: Tensor) -> Tensor:
    stacked = torch.stack(steps, dim=1)
    rows = torch.arange(len(chosen), device=chosen.device)[:, None]
    return stacked[rows, chosen]
