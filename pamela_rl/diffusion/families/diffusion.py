"""What the diffusion families share: a UNet, DDIM steps, latents as channels by height by width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.ddim import DDIMSchedule
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.transitions import noise_of_steps
from pamela_rl.errors import ConfigError


class DiffusionPolicy(Policy):
    """A pipeline with a UNet that predicts noise or velocity, seen as a policy over DDIM steps."""

    component = "unet"

    def __init__(self, pipeline: Any, height: int | None = None, width: int | None = None):
        super().__init__(pipeline, height, width)
        self._scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        kind = self._scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ConfigError(f"the scheduler predicts {kind!r}; DDIM here knows 'epsilon' and 'v_prediction'.")

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments."""
        return {"guidance_scale": guidance_scale, "negative_prompt": negative if any(negative) else None}

    def schedule(
        self,
        num_inference_steps: int,
        eta: float | None,
        noise: FlowNoise = "flow_sde",
        window: tuple[int, int] | None = None,
    ) -> DDIMSchedule:
        """Return the pipeline's own noise levels for so many steps; DDIM's noise is of one kind."""
        scheduler = self._scheduler
        scheduler.set_timesteps(num_inference_steps)
        timesteps = scheduler.timesteps.cpu()
        following = timesteps - scheduler.config.num_train_timesteps // num_inference_steps
        cumulative = scheduler.alphas_cumprod.float()
        last = torch.as_tensor(scheduler.final_alpha_cumprod, dtype=torch.float32)
        after = torch.where(following >= 0, cumulative[following.clamp(min=0)], last)
        at, device = noise_of_steps(num_inference_steps, 1.0 if eta is None else eta, window), self.device
        times, now, after, at = (tensor.to(device) for tensor in (timesteps, cumulative[timesteps], after, at))
        return DDIMSchedule(times, now, after, at, scheduler.config.prediction_type == "v_prediction")

    def _initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        channels, compression = self.pipeline.unet.config.in_channels, self._compression()
        shape = (channels, self.height // compression, self.width // compression)
        drawn = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
        return torch.stack(drawn) * float(self._scheduler.init_noise_sigma)

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        images: Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return images
