"""Sana: Gemma as text encoder, a deep-compression autoencoder, linear attention."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pamela_rl.diffusion.families.flow_matching import FlowPolicy


class SanaPolicy(FlowPolicy):
    """A ``SanaPipeline`` as a policy. Its steps are Euler's; the pipeline's usual solver is of second order.

    Attributes:
        instruction: Instruction put before a prompt for the text encoder; the pipeline's own unless changed.
    """

    pipeline_class = "SanaPipeline"

    def __init__(self, pipeline: Any, height: int | None = None, width: int | None = None):
        super().__init__(pipeline, height, width)
        own = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"]
        self.instruction: list[str] | None = own.default

    @property
    def lora_target_modules(self) -> Sequence[str]:
        """Attention's inputs, as diffusers' own example."""
        return ("to_k", "to_q", "to_v")

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments, at the size asked for and no other."""
        own = super().call_arguments(pipeline, guidance_scale, negative)
        return own | {"use_resolution_binning": False}

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        embeds, mask, _, _ = self.pipeline.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            device=self.device,
            complex_human_instruction=self.instruction,
        )
        return {"prompt_embeds": embeds, "mask": mask}

    def _encode_negative(self, prompt: str) -> Mapping[str, Tensor]:
        _, _, embeds, mask = self.pipeline.encode_prompt(
            "", do_classifier_free_guidance=True, negative_prompt=prompt, device=self.device
        )
        return {"prompt_embeds": embeds, "mask": mask}

    def _set_timesteps(self, num_inference_steps: int, sigmas: Any) -> None:
        own = self.pipeline.scheduler.config
        if own.get("use_flow_sigmas"):  # the usual solver of second order starts its levels just below 1
            self._scheduler.set_timesteps(sigmas=sigmas * (1 - 1 / own.num_train_timesteps))
        else:
            self._scheduler.set_timesteps(num_inference_steps)

    def _multiple(self) -> int:
        return 32  # the pipeline itself takes no others

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        config: Any = self.denoiser.config
        output: Tensor = self.denoiser(
            latents,
            encoder_hidden_states=conditioning["prompt_embeds"],
            encoder_attention_mask=conditioning["mask"],
            timestep=timesteps * config.timestep_scale,
            return_dict=False,
        )[0]
        learned_variance = config.out_channels // 2 == config.in_channels
        return output.chunk(2, dim=1)[0] if learned_variance else output

    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        images: Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return images

    def _encode_images(self, images: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents: Tensor = vae.encode(images).latent * vae.config.scaling_factor
        return latents
