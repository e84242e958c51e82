"""Stable Diffusion 3 and 3.5: three text encoders, latents as channels by height by width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pamela_rl.diffusion.families.flow_matching import FlowPolicy

LAYERS = ("to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_q_proj", "add_v_proj", "to_add_out")


class StableDiffusion3Policy(FlowPolicy):
    """A ``StableDiffusion3Pipeline`` as a policy."""

    pipeline_class = "StableDiffusion3Pipeline"

    @property
    def lora_target_modules(self) -> Sequence[str]:
        """Both streams' attention, except the last block's query of the prompt, whose answer is thrown away."""
        blocks = range(self.denoiser.config.num_layers)
        names = [f"transformer_blocks.{block}.attn.{layer}" for block in blocks for layer in LAYERS]
        found = {name for name, _ in self.denoiser.named_modules()}
        return [name for name in names if name in found and name != f"transformer_blocks.{blocks[-1]}.attn.add_q_proj"]

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments, and T5's number of tokens where the transformer's config fixes it."""
        return super().call_arguments(pipeline, guidance_scale, negative) | _length(pipeline)

    def _encode(self, prompt: str) -> Mapping[str, Tensor]:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompt, None, None, device=self.device, do_classifier_free_guidance=False, **_length(self.pipeline)
        )
        return {"prompt_embeds": embeds, "pooled": pooled}

    def _set_timesteps(self, num_inference_steps: int, sigmas: Any) -> None:
        shift = {"mu": self._shift(longest=1.16)} if self._scheduler.config.get("use_dynamic_shifting") else {}
        self._scheduler.set_timesteps(num_inference_steps, **shift)

    def _multiple(self) -> int:
        return self._compression() * int(self.denoiser.config.patch_size)

    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once; arguments as ``Policy.denoise``."""
        output: Tensor = self.denoiser(
            hidden_states=latents,
            timestep=timesteps,
            encoder_hidden_states=conditioning["prompt_embeds"],
            pooled_projections=conditioning["pooled"],
            return_dict=False,
        )[0]
        return output

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.pipeline.vae.decode(self._unscaled(latents), return_dict=False)[0]
        return images


def _length(pipeline: Any) -> dict[str, int]:
    """T5's number of tokens, where the transformer's config fixes it; a model without T5 may need zero."""
    length = pipeline.transformer.config.get("_max_sequence_length")
    return {} if length is None else {"max_sequence_length": length}
