"""What the flow-matching families share: a transformer, Euler's noise levels, and three ways to add noise to a step."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pamela_rl.config import FlowNoise
from pamela_rl.diffusion.flow import FlowSchedule
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.schedulers import euler_scheduler
from pamela_rl.diffusion.transitions import noise_of_steps

OWN_NOISE: dict[FlowNoise, float] = {"flow_sde": 0.7, "cps": 0.8, "dance": 0.3}  # of the papers


class FlowPolicy(Policy):
    """A pipeline whose transformer predicts a velocity, seen as a policy over noisy Euler steps.

    Attributes:
        packs: Whether two by two latents become one token of four times the channels.
    """

    packs = False

    def __init__(self, pipeline: Any, height: int | None = None, width: int | None = None):
        super().__init__(pipeline, height, width)
        self._scheduler = euler_scheduler(pipeline.scheduler)

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments."""
        return {"guidance_scale": guidance_scale, "negative_prompt": negative}

    def schedule(
        self,
        num_inference_steps: int,
        eta: float | None,
        noise: FlowNoise = "flow_sde",
        window: tuple[int, int] | None = None,
    ) -> FlowSchedule:
        """Return the pipeline's own noise levels for so many steps at the policy's size."""
        sigmas = torch.linspace(1.0, 1 / num_inference_steps, num_inference_steps, dtype=torch.float64).numpy()
        self._set_timesteps(num_inference_steps, sigmas)
        levels = (
            self._scheduler.timesteps,
            self._scheduler.sigmas,
            noise_of_steps(num_inference_steps, OWN_NOISE[noise] if eta is None else eta, window),
        )
        timesteps, falling, at = (tensor.float().cpu() for tensor in levels)
        return FlowSchedule(timesteps, falling, at, noise)

    @abstractmethod
    def _set_timesteps(self, num_inference_steps: int, sigmas: Any) -> None:
        """Set the scheduler as the pipeline sets its own; ``sigmas`` fall evenly from 1."""

    def _initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        config: Any = self.denoiser.config
        channels = config.in_channels // 4 if self.packs else config.in_channels
        prepared = self.pipeline.prepare_latents(
            len(generators), channels, self.height, self.width, torch.float32, self.device, list(generators)
        )
        latents: Tensor = prepared[0] if isinstance(prepared, tuple) else prepared  # some add position ids
        return latents

    def _shift(self, longest: float = 1.15) -> float:
        """The pipelines' shift of noise levels, which grows with the number of the image's patches."""
        config = self._scheduler.config
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        least, most = config.get("base_shift", 0.5), config.get("max_shift", longest)
        return float(least + (most - least) / (high - low) * (math.prod(self._grid()) - low))

    def _grid(self) -> tuple[int, int]:
        """Rows and columns of patches that the transformer sees of an image."""
        return self.height // self._multiple(), self.width // self._multiple()

    def _guidance_input(self, latents: Tensor, guidance_scale: float) -> Tensor | None:
        """The guidance scale as a model with distilled guidance takes it, ``(b,)``; None for one without."""
        if not self.embeds_guidance(self.pipeline):
            return None
        return torch.full([len(latents)], guidance_scale, device=latents.device)

    def _unscaled(self, latents: Tensor) -> Tensor:
        """Latents as the VAE knows them, ``(b, c, h, w)``."""
        config = self.pipeline.vae.config
        return latents / config.scaling_factor + config.shift_factor

    def _encode_images(self, images: Tensor) -> Tensor:
        vae: Any = self.pipeline.vae
        whole: Tensor = vae.encode(images).latent_dist.mode()
        latents = (whole - vae.config.shift_factor) * vae.config.scaling_factor
        return self._packed(latents) if self.packs else latents

    def _packed(self, latents: Tensor) -> Tensor:
        """Latents, ``(b, c, h, w)``, as patches of two by two, ``(b, n, 4 c)``."""
        packed: Tensor = self.pipeline._pack_latents(latents, *latents.shape)
        return packed

    def _multiple(self) -> int:
        """Two latents are packed into one patch."""
        return 2 * self._compression()
