"""FLUX.2 klein: a small FLUX.2 on Qwen3, with guidance by two branches unless it is distilled for few steps."""

from __future__ import annotations

from typing import Any

from pamela_rl.diffusion.families.flux2 import Flux2Policy


class Flux2KleinPolicy(Flux2Policy):
    """A ``Flux2KleinPipeline`` as a policy."""

    pipeline_class = "Flux2KleinPipeline"

    @classmethod
    def call_arguments(cls, pipeline: Any, guidance_scale: float, negative: list[str]) -> dict[str, Any]:
        """Express guidance in the pipeline's own arguments; it takes a negative prompt as embeddings alone."""
        own = super().call_arguments(pipeline, guidance_scale, negative)
        if not any(negative):
            return own
        embeds, _ = pipeline.encode_prompt(prompt=negative, device=pipeline._execution_device, **cls.encode_options)
        return own | {"negative_prompt_embeds": embeds}

    @classmethod
    def embeds_guidance(cls, pipeline: Any) -> bool:
        """Klein never takes a guidance scale as a number."""
        return False

    @classmethod
    def has_unconditional_branch(cls, pipeline: Any, guidance_scale: float) -> bool:
        """Whether the denoiser is called for a negative prompt, too; not where it is distilled to do without."""
        return guidance_scale > 1 and not pipeline.config.is_distilled
