"""FLUX.2 klein: a small FLUX.2 on Qwen3, with guidance by two branches unless it is distilled for few steps."""

from __future__ import annotations

from pamela_rl.diffusion.families.flux2 import Flux2Policy
from pamela_rl.types import Conditioning


class Flux2KleinPolicy(Flux2Policy):
    """A ``Flux2KleinPipeline`` as a policy."""

    pipeline_class = "Flux2KleinPipeline"

    @property
    def embeds_guidance(self) -> bool:
        """Klein never takes a guidance scale as a number."""
        return False

    def encode_negative(self, prompt: str, guidance_scale: float) -> Conditioning | None:
        """Encode the negative prompt; None for a model distilled to do without."""
        return None if self.pipeline.config.is_distilled else super().encode_negative(prompt, guidance_scale)
