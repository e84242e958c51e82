"""FLUX.2: one language model as text encoder, patches with position ids, guidance distilled into the transformer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from torch import Tensor

from pamela_rl.diffusion.families.flow_matching import FlowPolicy


class Flux2Policy(FlowPolicy):
    """A ``Flux2Pipeline`` as a policy.

    Attributes:
        encode_options: Further arguments of the pipeline's ``encode_prompt``, e.g. ``text_encoder_out_layers``.
    """

    pipeline_class = "Flux2Pipeline"
    packs = True
    encode_options: Mapping[str, Any] = {}

    @property
    def lora_target_modules(self) -> Sequence[str]:
        """Attention everywhere; in single blocks the output is a layer itself, in double ones a list."""
        singles = range(self.denoiser.config.num_single_layers)
        outputs = (f"single_transformer_blocks.{row}.attn.to_out" for row in singles)
        return ("to_k", "to_q", "to_v", "to_out.0", "to_qkv_mlp_proj", *outputs)

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments; it knows no negative prompt."""
        return {"guidance_scale": guidance_scale}

    @classmethod
    def embeds_guidance(cls, pipeline: Any) -> bool:
        """Whether guidance is distilled into the transformer."""
        return bool(pipeline.transformer.config.get("guidance_embeds", True))

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        embeds, _ = self.pipeline.encode_prompt(prompt=prompt, device=self.device, **self.encode_options)
        return {"prompt_embeds": embeds}

    def _set_timesteps(self, num_inference_steps: int, sigmas: Any) -> None:
        shift = compute_empirical_mu(math.prod(self._grid()), num_inference_steps)
        self._scheduler.set_timesteps(sigmas=sigmas, mu=shift)

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        output: Tensor = self.denoiser(
            hidden_states=latents,
            timestep=timesteps.to(latents.dtype) / 1000,
            guidance=self._guidance_input(latents, guidance_scale),
            encoder_hidden_states=conditioning["prompt_embeds"],
            txt_ids=self.pipeline._prepare_text_ids(conditioning["prompt_embeds"]).to(latents.device),
            img_ids=self._places(len(latents)).to(latents.device),
            return_dict=False,
        )[0]
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # packed patches lie row by row
        patches = latents.transpose(1, 2).unflatten(2, self._grid())
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(patches)
        std = (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt().to(patches)
        images: Tensor = vae.decode(self.pipeline._unpatchify_latents(patches * std + mean), return_dict=False)[0]
        return images

    def _encode_images(self, images: Tensor) -> Tensor:
        vae = self.pipeline.vae
        patches = self.pipeline._patchify_latents(vae.encode(images).latent_dist.mode())
        mean = vae.bn.running_mean.view(1, -1, 1, 1).to(patches)
        std = (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt().to(patches)
        latents: Tensor = ((patches - mean) / std).flatten(2).transpose(1, 2)
        return latents

    def _places(self, count: int) -> Tensor:
        """Position ids of every patch, ``(b, n, 4)``."""
        ids: Tensor = self.pipeline._prepare_latent_ids(torch.empty(count, 1, *self._grid()))
        return ids
