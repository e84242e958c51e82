"""What a family of models must answer, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.types import Conditioning


class Policy(Protocol):
    """A diffusers pipeline seen by the loop: what is trained is its denoiser's LoRA.

    Attributes:
        pipeline: The pipeline.
        component: Which part of it is the denoiser, "unet" or "transformer".
        denoiser: That part.
        height: Of the pictures drawn, in pixels.
        width: Of the pictures drawn, in pixels.
        sharded: The denoiser is cut over processes, which must then call it equally often.
        compiled: Its blocks are compiled.
        offload: Parts with nothing to do wait on the CPU.
    """

    pipeline: Any
    component: str
    denoiser: nn.Module
    height: int
    width: int
    sharded: bool
    compiled: bool
    offload: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of the base model's weights."""
        ...

    @property
    def lora_target_modules(self) -> Sequence[str]:
        """Names, or ends of names, of the denoiser's layers that get a LoRA."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        ...

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, one row each, on the policy's device; no gradient. Each prompt is encoded once."""
        ...

    def encode_negative(self, prompt: str, guidance_scale: float) -> Conditioning | None:
        """Encode what guidance steers away from, one row; None where the denoiser is asked only once."""
        ...

    def initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw one starting point a generator, fp32, ``(b, …)``."""
        ...

    def schedule(
        self,
        num_inference_steps: int,
        eta: float | None,
        noise: FlowNoise = "flow_sde",
        window: tuple[int, int] | None = None,
    ) -> Schedule:
        """Return the chain of noise levels, on the policy's device.

        Args:
            num_inference_steps: Of the chain.
            eta: Noise of the stochastic steps; None is the one that the papers take for this kind.
            noise: Which kind; diffusion families know one only and pass over it.
            window: First stochastic step and the one after the last; None is the whole chain.
        """
        ...

    def predict(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        negative: Conditioning | None,
        guidance_scale: float,
    ) -> Tensor:
        """Ask the denoiser, guidance in one batched call.

        Args:
            latents: ``(b, …)``.
            timesteps: Of each sample, as the schedule gives them, ``(b,)``.
            conditioning: One row a sample.
            negative: What guidance steers away from, one row for all; None asks without.
            guidance_scale: 1 is none.

        Returns:
            What the denoiser predicts, fp32, ``(b, …)``.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Turn final latents into pictures in [0, 1], ``(b, 3, height, width)``; gradients reach the latents."""
        ...

    def rest(self) -> None:
        """Send parts with nothing to do to the CPU, after a backward pass that needed them."""
        ...

    def assembled(self) -> AbstractContextManager[None]:
        """Bring every part to the denoiser's device inside the block, so that the pipeline's own call works."""
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
