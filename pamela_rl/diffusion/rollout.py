"""Act: sample images with the current policy and keep the steps that will be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pamela_rl.config import SamplingConfig
from pamela_rl.diffusion.batching import log_probs, predict_in_batches
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.transfers import to_device
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.types import PromptBatch, Trajectory


def schedule_of(policy: Policy, sampling: SamplingConfig) -> Schedule:
    """Return the chain of noise levels that the settings ask for, on the CPU."""
    return policy.schedule(sampling.num_inference_steps, sampling.eta, sampling.flow_noise, sampling.window)


def choose_steps(schedule: Schedule, count: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Choose which steps of each image are trained, without repeats, in order, ``(b, count)``."""
    possible = schedule.trainable_steps()
    count = min(count, len(possible))
    steps = [possible[torch.randperm(len(possible), generator=g)[:count]].sort().values for g in generators]
    return torch.stack(steps)


@torch.no_grad()
def rollout(
    policy: Policy,
    batch: PromptBatch,
    config: SamplingConfig,
    seed: int,
    iteration: int,
    batch_size: int,
    choose: Callable[[Schedule, int, Sequence[torch.Generator]], Tensor] = choose_steps,
    keep_means: bool = False,
    as_trained: bool = False,
) -> Trajectory:
    """Sample one image a prompt.

    Args:
        policy: The pipeline, its adapter on.
        batch: Prompts and image ids.
        config: Steps, noise and guidance.
        seed: Of the run.
        iteration: Of the run; with ``seed`` and an image's id it fixes all its noise.
        batch_size: Images in one denoiser call, or all there are if that is fewer.
        choose: Which steps of each image are kept; arguments as ``choose_steps``.
        keep_means: Whether their means are kept too.
        as_trained: Compute the very numbers that training will, where a compiled denoiser has another graph for that.
    """
    batch_size = min(batch_size, len(batch))
    device, levels = policy.device, schedule_of(policy, config)
    generators = [generator_for(seed, iteration, image_id) for image_id in batch.image_ids.tolist()]
    chosen, noisy, schedule = choose(levels, config.train_steps, generators), levels.eta.tolist(), levels.to(device)
    unique = {prompt: row for row, prompt in enumerate(dict.fromkeys(batch.prompts))}
    index = to_device(torch.tensor([unique[prompt] for prompt in batch.prompts]), device)
    conditioning = policy.encode(list(unique))
    negative = policy.encode_negative(config.negative_prompt, config.guidance_scale)
    conditioning_rows, kept = conditioning[index], _places(chosen, config.num_inference_steps, device)
    latents = policy.initial_latents(generators)
    before, after = (latents.new_zeros(*chosen.shape, *latents.shape[1:]) for _ in range(2))
    means = torch.zeros_like(before) if keep_means else None
    densities = latents.new_zeros(chosen.shape)
    for step in range(config.num_inference_steps):
        at = torch.full((len(batch),), step, device=device)
        output = predict_in_batches(
            policy, latents, schedule.timesteps[at], conditioning_rows, negative, config.guidance_scale, batch_size, as_trained
        )  # fmt: skip
        transition = schedule.transition(output, latents, at)
        following = transition.sample(_noise(latents, generators)) if noisy[step] else transition.mean
        rows, slots = kept[step]
        if len(rows):
            before[rows, slots], after[rows, slots] = latents[rows], following[rows]
            densities[rows, slots] = log_probs(transition, following, batch_size)[rows]
            if means is not None:
                means[rows, slots] = transition.mean[rows]
        latents = following
    return Trajectory(
        image_ids=batch.image_ids,
        images=policy.decode_all(latents, batch_size),
        final_latents=latents,
        latents=before,
        next_latents=after,
        step_index=to_device(chosen, device),
        log_probs=densities,
        means=means,
        conditioning=conditioning,
        prompt_index=index,
        negative=negative,
    )


def _places(chosen: Tensor, num_steps: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For each step, which images keep it, and as which of their kept steps."""
    places = [torch.nonzero(chosen == step) for step in range(num_steps)]
    sent = to_device(torch.cat(places), device).split([len(place) for place in places])
    return [(place[:, 0], place[:, 1]) for place in sent]


def _noise(latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Each image's own noise, drawn on the CPU so that devices agree, ``(b, …)``."""
    noise = torch.stack([torch.randn(latents.shape[1:], generator=generator) for generator in generators])
    return to_device(noise, latents.device)
