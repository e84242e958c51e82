"""The base of the diffusion families: a UNet, DDIM steps, latents as channels by height by width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.ddim import DDIMSchedule
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.schedulers import DiffusionLevels
from pamela_rl.diffusion.transfers import to_device
from pamela_rl.diffusion.transitions import noise_of_steps


class DiffusionPolicy(Policy):
    """A pipeline whose UNet predicts noise or velocity, as a policy over DDIM steps at its scheduler's noise levels."""

    component = "unet"

    def __init__(self, pipeline: Any, height: int | None = None, width: int | None = None):
        super().__init__(pipeline, height, width)
        self._levels = DiffusionLevels(pipeline.scheduler)

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments."""
        return {"guidance_scale": guidance_scale, "negative_prompt": negative if any(negative) else None}

    @classmethod
    def embeds_guidance(cls, pipeline: Any) -> bool:
        """Whether guidance is distilled into the UNet, as in latent consistency models."""
        return pipeline.unet.config.time_cond_proj_dim is not None

    def schedule(
        self,
        num_inference_steps: int,
        eta: float | None,
        noise: FlowNoise = "flow_sde",
        window: tuple[int, int] | None = None,
    ) -> DDIMSchedule:
        """Return the pipeline's own noise levels for so many steps; DDIM's noise is of one kind."""
        at = noise_of_steps(num_inference_steps, 1.0 if eta is None else eta, window)
        timesteps, before, after = self._levels.chain(num_inference_steps)
        return DDIMSchedule(timesteps, before, after, at, self._levels.v_prediction)

    def _guidance_input(self, latents: Tensor, guidance_scale: float) -> Tensor | None:
        """The guidance scale as a guidance-distilled UNet takes it, ``(b, dim)``; None for any other."""
        if not self.embeds_guidance(self.pipeline):
            return None
        scales, width = torch.full((len(latents),), guidance_scale - 1), self.denoiser.config.time_cond_proj_dim
        embedding: Tensor = self.pipeline.get_guidance_scale_embedding(scales, embedding_dim=width)
        return to_device(embedding, latents.device).to(latents.dtype)

    def _initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        channels, compression = self.pipeline.unet.config.in_channels, self._compression()
        shape = (channels, self.height // compression, self.width // compression)
        noise = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
        return torch.stack(noise) * self._levels.start_scale

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        images: Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return images

    def _encode_images(self, images: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents: Tensor = vae.encode(images).latent_dist.mode() * vae.config.scaling_factor
        return latents
