"""FLUX.1: T5 and CLIP, packed latents with position ids, guidance distilled into the transformer (dev) or none (schnell)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pamela_rl.diffusion.families.flow_matching import FlowPolicy

LAYERS = (
    *(f"attn.{layer}" for layer in ("to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_q_proj", "add_v_proj")),
    *("attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
)


class FluxPolicy(FlowPolicy):
    """A ``FluxPipeline`` as a policy; a scale above 1 on a model without distilled guidance is true guidance."""

    pipeline_class = "FluxPipeline"
    packs = True

    @property
    def lora_target_modules(self) -> Sequence[str]:
        """Both streams' attention and feed-forward layers, as diffusers' own example."""
        return LAYERS

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments; a model takes the one it knows."""
        if pipeline.transformer.config.guidance_embeds:
            return {"guidance_scale": guidance_scale}
        return {"true_cfg_scale": guidance_scale, "negative_prompt": negative} if guidance_scale > 1 else {}

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        embeds, pooled, _ = self.pipeline.encode_prompt(prompt=prompt, prompt_2=None, device=self.device)
        return {"prompt_embeds": embeds, "pooled": pooled}

    def _set_timesteps(self, num_inference_steps: int, sigmas: Any) -> None:
        self._scheduler.set_timesteps(sigmas=sigmas, mu=self._shift())

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        count, embeds = len(latents), conditioning["prompt_embeds"]
        places = self.pipeline._prepare_latent_image_ids(count, *self._grid(), latents.device, latents.dtype)
        output: Tensor = self.denoiser(
            hidden_states=latents,
            timestep=timesteps.to(latents.dtype) / 1000,
            guidance=self._guidance_input(latents, guidance_scale),
            pooled_projections=conditioning["pooled"],
            encoder_hidden_states=embeds,
            txt_ids=torch.zeros(embeds.shape[1], 3, device=latents.device, dtype=latents.dtype),
            img_ids=places,
            return_dict=False,
        )[0]
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        whole = self.pipeline._unpack_latents(latents, self.height, self.width, self._compression())
        images: Tensor = self.pipeline.vae.decode(self._unscaled(whole), return_dict=False)[0]
        return images
