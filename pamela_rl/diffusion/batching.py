"""Calls of one fixed shape, so that sampling and training compute the same numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.transitions import Normal
from pamela_rl.types import Conditioning


def padded_rows(count: int, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, int]]:
    """Cut ``count`` rows into batches of exactly ``batch_size``; the last repeats its last row.

    Matrix kernels choose their summation order by the shape of the call and by a sample's place in it, so the same
    sample can differ in the last bit between a batch of 48 and one of 7, or between the first row and the last. Where
    sampling and training keep every sample in its row of calls of one shape, the ratio before the first update is
    exactly 1.

    Yields:
        Row numbers, ``(batch_size,)``, and how many of them are real.
    """
    for start in range(0, count, batch_size):
        rows = torch.arange(start, start + batch_size, device=device).clamp(max=count - 1)
        yield rows, min(batch_size, count - start)


def log_probs(transition: Normal, latents: Tensor, batch_size: int) -> Tensor:
    """Return the log-density of latents in calls of ``batch_size``, since sums round by the shape of a call, ``(b,)``."""
    parts = [
        transition[rows].log_prob(latents[rows])[:real]
        for rows, real in padded_rows(len(latents), batch_size, latents.device)
    ]
    return torch.cat(parts)


def predict_in_batches(
    policy: Policy,
    latents: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    negative: Conditioning | None,
    guidance_scale: float,
    batch_size: int,
    as_trained: bool = False,
) -> Tensor:
    """Predict any number of samples in calls of ``batch_size``; arguments as ``Policy.predict``."""
    parts = []
    for rows, real in padded_rows(len(latents), batch_size, latents.device):
        output = policy.predict(
            latents[rows], timesteps[rows], conditioning[rows], negative, guidance_scale, as_trained=as_trained
        )
        parts.append(output[:real])
    return torch.cat(parts)
