"""What a family of models must answer, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pamela_rl.diffusion.transitions import DDIMSchedule


class Policy(Protocol):
    """A diffusers pipeline seen by the loop: what is trained is its denoiser's LoRA."""

    pipeline: Any
    denoiser: nn.Module
    lora_target_modules: Sequence[str]

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        ...

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts, ``(b, tokens, dim)``; no gradient."""
        ...

    def initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw one starting point a generator, fp32, ``(b, c, h, w)``."""
        ...

    def schedule(self, num_inference_steps: int, eta: float) -> DDIMSchedule:
        """Return the chain of noise levels, on the policy's device."""
        ...

    def predict(
        self, latents: Tensor, timesteps: Tensor, embeds: Tensor, negative_embeds: Tensor | None, guidance_scale: float
    ) -> Tensor:
        """Ask the denoiser, guidance in one batched call, ``(b, c, h, w)``."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Turn final latents into pictures in [0, 1], ``(b, 3, height, width)``; gradients reach the latents."""
        ...


@contextmanager
def adapter_off(policy: Policy) -> Iterator[None]:
    """Switch the adapter off inside the block: the denoiser is the reference, bit for bit."""
    denoiser: Any = policy.denoiser
    denoiser.disable_adapters()
    try:
        yield
    finally:
        denoiser.enable_adapters()
