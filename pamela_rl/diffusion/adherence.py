"""Whether images show what their prompts ask for, according to the base model itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pamela_rl.config import SamplingConfig
from pamela_rl.diffusion.batching import predict_in_batches
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.rollout import schedule_of

LEVELS = (0.1, 0.2, 0.3)  # places in the chain, as shares of it: where it is decided what an image shows
_NOISE = 0x414448  # keeps its noise apart from the images' own


@torch.no_grad()
def adherence(
    policy: Policy, latents: Tensor, prompts: Sequence[str], sampling: SamplingConfig, batch_size: int
) -> Tensor:
    """Return how much better the base model foretells each image with its prompt than without any, ``(b,)``.

    It is the difference of two denoising errors, mean over a few noise levels and over latent dimensions: the base
    model's own classifier of what an image shows (arXiv:2303.16203), which costs no other model. Near 0 for an image that
    has nothing to do with its prompt.

    Args:
        policy: With an adapter on it, which is off meanwhile.
        latents: Final ones, as the denoiser takes them, ``(b, …)``.
        prompts: One an image.
        sampling: Of the chain of noise levels.
        batch_size: Images in one denoiser call.
    """
    schedule = schedule_of(policy, sampling).to(policy.device)
    count, steps = len(latents), len(schedule.timesteps)
    unique = {prompt: row for row, prompt in enumerate(dict.fromkeys(["", *prompts]))}
    encoded, device = policy.encode(list(unique)), latents.device
    asked = torch.tensor([unique[prompt] for prompt in prompts], device=device)
    total = torch.zeros(count, device=device)
    places = sorted({round(share * steps) for share in LEVELS if round(share * steps) < steps})
    with adapter_off(policy):
        for place in places:
            noise = torch.randn(latents.shape[1:], generator=generator_for(_NOISE, place)).to(device)
            noise, step = noise.expand_as(latents), torch.full((count,), place, device=device)
            noisy = schedule.noised(latents, noise, step)
            errors = [
                (
                    schedule.clean(
                        predict_in_batches(
                            policy, noisy, schedule.timesteps[step], encoded[rows], None, 1.0, min(batch_size, count)
                        ),
                        noisy,
                        step,
                    )
                    - latents
                ).square().flatten(1).mean(dim=1)
                for rows in (torch.zeros_like(asked), asked)
            ]  # fmt: skip
            total += (errors[0] - errors[1]) / len(places)
    return total
