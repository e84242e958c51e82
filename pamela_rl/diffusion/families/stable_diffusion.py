"""Stable Diffusion 1.x and 2.x, and the world: UNet2DConditionModel with one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from pamela_rl.diffusion.transitions import DDIMSchedule
from pamela_rl.errors import ConfigError


class StableDiffusionPolicy:
    """A ``StableDiffusionPipeline`` as a policy over DDIM steps."""

    lora_target_modules: Sequence[str] = ("to_q", "to_k", "to_v", "to_out.0")

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline
        self.denoiser: nn.Module = pipeline.unet
        for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            module.requires_grad_(False).eval()
        self._scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        kind = self._scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ConfigError(f"the scheduler predicts {kind!r}; DDIM here knows 'epsilon' and 'v_prediction'.")

    @property
    def device(self) -> torch.device:
        """Where the denoiser lives."""
        return next(self.denoiser.parameters()).device

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Embed prompts with the pipeline's own ``encode_prompt``, ``(b, tokens, dim)``."""
        unique = list(dict.fromkeys(prompts))
        embeds, _ = self.pipeline.encode_prompt(
            prompt=unique, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        rows = {prompt: row for row, prompt in enumerate(unique)}
        result: Tensor = embeds[[rows[prompt] for prompt in prompts]]
        return result

    def initial_latents(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw one starting point a generator, fp32, ``(b, c, h, w)``; drawn on the generators' device, then moved."""
        config = self.pipeline.unet.config
        side = config.sample_size
        high, wide = (side, side) if isinstance(side, int) else side
        shape = (config.in_channels, high, wide)
        drawn = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
        scale = float(self._scheduler.init_noise_sigma)
        return torch.stack(drawn).to(self.device) * scale

    def schedule(self, num_inference_steps: int, eta: float) -> DDIMSchedule:
        """Return the pipeline's own noise levels for so many steps."""
        scheduler = self._scheduler
        scheduler.set_timesteps(num_inference_steps)
        timesteps = scheduler.timesteps.cpu()
        following = timesteps - scheduler.config.num_train_timesteps // num_inference_steps
        cumulative = scheduler.alphas_cumprod.float()
        last = torch.as_tensor(scheduler.final_alpha_cumprod, dtype=torch.float32)
        after = torch.where(following >= 0, cumulative[following.clamp(min=0)], last)
        kind = scheduler.config.prediction_type
        chain = DDIMSchedule(timesteps, cumulative[timesteps], after, eta, kind == "v_prediction")
        return chain.to(self.device)

    def predict(
        self, latents: Tensor, timesteps: Tensor, embeds: Tensor, negative_embeds: Tensor | None, guidance_scale: float
    ) -> Tensor:
        """Ask the UNet; with guidance both branches go through it in one batch."""
        dtype = self.pipeline.unet.dtype
        if negative_embeds is None:
            output: Tensor = self.denoiser(latents.to(dtype), timesteps, embeds.to(dtype), return_dict=False)[0]
            return output
        both = torch.cat([negative_embeds, embeds]).to(dtype)
        doubled = torch.cat([latents, latents]).to(dtype)
        output = self.denoiser(doubled, torch.cat([timesteps, timesteps]), both, return_dict=False)[0]
        unconditional, conditional = output.float().chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode final latents with the pipeline's VAE, ``(b, 3, height, width)`` in [0, 1], with gradient to them."""
        vae = self.pipeline.vae
        pictures: Tensor = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor, return_dict=False)[0]
        return (pictures.float() / 2 + 0.5).clamp(0, 1)
