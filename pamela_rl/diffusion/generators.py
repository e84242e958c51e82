"""Pictures for looking at and for measuring: an ordinary diffusers pipeline, with or without an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.diffusion.policy import Policy, adapter_off


@dataclass(frozen=True)
class PipelineGenerator:
    """Draws through the pipeline's own ``__call__``, as a user of the adapter would.

    Attributes:
        policy: Holds the pipeline.
        adapter: Name of the adapter to switch on; None draws with the base model.
        num_inference_steps: Denoising steps, without added noise.
        guidance_scale: 1 draws without guidance.
        batch_size: Pictures a call.
    """

    policy: Policy
    adapter: str | None
    num_inference_steps: int = 20
    guidance_scale: float = 1.0
    batch_size: int = 32

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return pictures in [0, 1], ``(b, 3, height, width)``; picture i starts from noise of seed i."""
        if self.adapter is not None:
            self.policy.pipeline.set_adapters(self.adapter)
        has_adapters = bool(getattr(self.policy.denoiser, "peft_config", None))
        off = adapter_off(self.policy) if self.adapter is None and has_adapters else nullcontext()
        pictures = []
        with off:
            for first in range(0, len(prompts), self.batch_size):
                part = slice(first, first + self.batch_size)
                pictures.append(self._draw(list(prompts[part]), list(seeds[part])))
        return torch.cat(pictures)

    def _draw(self, prompts: list[str], seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        output: Tensor = self.policy.pipeline(
            prompts,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            generator=generators,
            output_type="pt",
        ).images
        return output.float().cpu()
