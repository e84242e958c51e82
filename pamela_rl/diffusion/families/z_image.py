"""Z-Image: Qwen3 as text encoder with prompts of any length, and a transformer that takes lists and counts time upwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pamela_rl.diffusion.families.flow_matching import FlowPolicy


class ZImagePolicy(FlowPolicy):
    """A ``ZImagePipeline`` as a policy."""

    pipeline_class = "ZImagePipeline"

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments; its scale counts from 0, not from 1."""
        return {"guidance_scale": guidance_scale - 1, "negative_prompt": negative}

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        (embeds,), _ = self.pipeline.encode_prompt([prompt], device=self.device, do_classifier_free_guidance=False)
        return {
            "prompt_embeds": embeds[None],
            "mask": torch.ones(1, len(embeds), dtype=torch.bool, device=embeds.device),
        }

    def _set_timesteps(self, num_inference_steps: int, sigmas: Any) -> None:
        # the pipeline's own levels pass through fp32
        self._scheduler.set_timesteps(sigmas=torch.as_tensor(sigmas).float().tolist(), mu=self._shift())

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        prompts = [
            embeds[mask] for embeds, mask in zip(conditioning["prompt_embeds"], conditioning["mask"], strict=True)
        ]
        frames = list(latents.unsqueeze(2).unbind(dim=0))
        drawn = self.denoiser(frames, (1000 - timesteps) / 1000, prompts, return_dict=False)[0]
        return -torch.stack([image.float() for image in drawn]).squeeze(2)

    def guide(self, unconditional: Tensor, conditional: Tensor, guidance_scale: float) -> Tensor:
        """Guidance in the pipeline's own order of sums."""
        return conditional + (guidance_scale - 1) * (conditional - unconditional)

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.pipeline.vae.decode(self._unscaled(latents), return_dict=False)[0]
        return images
