"""Stable Diffusion 1.x and 2.x, and the world: one CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pamela_rl.diffusion.families.diffusion import DiffusionPolicy


class StableDiffusionPolicy(DiffusionPolicy):
    """A ``StableDiffusionPipeline`` as a policy."""

    pipeline_class = "StableDiffusionPipeline"

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        embeds, _ = self.pipeline.encode_prompt(
            prompt=prompt, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds}

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        output: Tensor = self.denoiser(
            latents, timesteps, conditioning["prompt_embeds"], timestep_cond=self._guidance_input(latents, guidance_scale),
            return_dict=False,
        )[0]  # fmt: skip
        return output
