"""Qwen-Image: Qwen2.5-VL as text encoder with prompts of any length, packed latents, guidance that keeps its norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pamela_rl.diffusion.families.flow_matching import FlowPolicy


class QwenImagePolicy(FlowPolicy):
    """A ``QwenImagePipeline`` as a policy."""

    pipeline_class = "QwenImagePipeline"
    packs = True

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments."""
        if pipeline.transformer.config.guidance_embeds:
            return {"guidance_scale": guidance_scale}
        guided = guidance_scale > 1
        return (
            {"true_cfg_scale": guidance_scale, "negative_prompt": [prompt or " " for prompt in negative]}
            if guided
            else {}
        )

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        embeds, mask = self.pipeline.encode_prompt(prompt=prompt, device=self.device)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device) if mask is None else mask
        return {"prompt_embeds": embeds, "mask": mask}

    def _encode_negative(self, prompt: str) -> Mapping[str, Tensor]:
        return self._encode(prompt or " ")  # the model's own examples say nothing by a blank

    def _set_timesteps(self, num_inference_steps: int, sigmas: Any) -> None:
        self._scheduler.set_timesteps(sigmas=sigmas, mu=self._shift())

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        mask = conditioning["mask"].bool()
        output: Tensor = self.denoiser(
            hidden_states=latents,
            timestep=timesteps.to(latents.dtype) / 1000,
            guidance=self._guidance_input(latents, guidance_scale),
            encoder_hidden_states=conditioning["prompt_embeds"],
            encoder_hidden_states_mask=None if bool(mask.all()) else mask,
            img_shapes=[[(1, *self._grid())]] * len(latents),
            return_dict=False,
        )[0]
        return output

    def guide(self, unconditional: Tensor, conditional: Tensor, guidance_scale: float) -> Tensor:
        """Guidance rescaled to the norm of the prompt's own prediction, patch by patch, as the pipeline does."""
        guided = super().guide(unconditional, conditional, guidance_scale)
        return guided * (conditional.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        whole = self.pipeline._unpack_latents(latents, self.height, self.width, self._compression())
        mean, std = (
            torch.tensor(v).view(1, -1, 1, 1, 1).to(whole) for v in (vae.config.latents_mean, vae.config.latents_std)
        )
        images: Tensor = vae.decode(whole / (1.0 / std) + mean, return_dict=False)[0][:, :, 0]
        return images

    def _encode_images(self, images: Tensor) -> Tensor:
        vae = self.pipeline.vae
        whole = vae.encode(images[:, :, None]).latent_dist.mode()
        mean, std = (
            torch.tensor(v).view(1, -1, 1, 1, 1).to(whole) for v in (vae.config.latents_mean, vae.config.latents_std)
        )
        return self._packed(((whole - mean) / std)[:, :, 0])
