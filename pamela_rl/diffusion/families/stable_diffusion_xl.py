"""Stable Diffusion XL: two text encoders, pooled embeddings, and image sizes as inputs of the UNet."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pamela_rl.diffusion.families.diffusion import DiffusionPolicy


class StableDiffusionXLPolicy(DiffusionPolicy):
    """A ``StableDiffusionXLPipeline`` as a policy; images are conditioned on their own size, uncropped."""

    pipeline_class = "StableDiffusionXLPipeline"

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=prompt, device=self.device, do_classifier_free_guidance=False
        )
        return self._tensors(embeds, pooled)

    def _encode_negative(self, prompt: str) -> Mapping[str, Tensor]:
        """Encode the negative prompt; where there is none, the pipeline's config says whether it is zeros."""
        _, embeds, _, pooled = self.pipeline.encode_prompt(
            prompt="", negative_prompt=prompt or None, device=self.device, do_classifier_free_guidance=True
        )
        return self._tensors(embeds, pooled)

    def _tensors(self, embeds: Tensor, pooled: Tensor) -> Mapping[str, Tensor]:
        second = self.pipeline.text_encoder_2
        width = int(pooled.shape[-1]) if second is None else second.config.projection_dim
        size = (self.height, self.width)
        ids = self.pipeline._get_add_time_ids(size, (0, 0), size, embeds.dtype, text_encoder_projection_dim=width)
        return {"prompt_embeds": embeds, "pooled": pooled, "time_ids": ids}

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        added = {"text_embeds": conditioning["pooled"], "time_ids": conditioning["time_ids"]}
        output: Tensor = self.denoiser(
            latents, timesteps, conditioning["prompt_embeds"], timestep_cond=self._guidance_input(latents, guidance_scale),
            added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        config = self.pipeline.vae.config
        if getattr(config, "latents_mean", None) and getattr(config, "latents_std", None):
            mean, std = (
                torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (config.latents_mean, config.latents_std)
            )
            images: Tensor = self.pipeline.vae.decode(latents * std / config.scaling_factor + mean, return_dict=False)[
                0
            ]
            return images
        return super()._decode(latents)

    def _encode_images(self, images: Tensor) -> Tensor:
        vae = self.pipeline.vae
        config = vae.config
        if getattr(config, "latents_mean", None) and getattr(config, "latents_std", None):
            whole = vae.encode(images).latent_dist.mode()
            mean, std = (torch.tensor(v).view(1, -1, 1, 1).to(whole) for v in (config.latents_mean, config.latents_std))
            latents: Tensor = (whole - mean) * config.scaling_factor / std
            return latents
        return super()._encode_images(images)
