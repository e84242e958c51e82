"""One small file a family of models; the pipeline's class tells which."""

from __future__ import annotations

from typing import Any

from pamela_rl.diffusion.families.flux import FluxPolicy
from pamela_rl.diffusion.families.flux2 import Flux2Policy
from pamela_rl.diffusion.families.flux2_klein import Flux2KleinPolicy
from pamela_rl.diffusion.families.pipeline_policy import PipelinePolicy
from pamela_rl.diffusion.families.qwen_image import QwenImagePolicy
from pamela_rl.diffusion.families.sana import SanaPolicy
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.families.stable_diffusion_3 import StableDiffusion3Policy
from pamela_rl.diffusion.families.stable_diffusion_xl import StableDiffusionXLPolicy
from pamela_rl.diffusion.families.z_image import ZImagePolicy
from pamela_rl.errors import ConfigError

FAMILIES: dict[str, type[PipelinePolicy]] = {
    "StableDiffusionPipeline": StableDiffusionPolicy,
    "StableDiffusionXLPipeline": StableDiffusionXLPolicy,
    "StableDiffusion3Pipeline": StableDiffusion3Policy,
    "FluxPipeline": FluxPolicy,
    "Flux2Pipeline": Flux2Policy,
    "Flux2KleinPipeline": Flux2KleinPolicy,
    "QwenImagePipeline": QwenImagePolicy,
    "ZImagePipeline": ZImagePolicy,
    "SanaPipeline": SanaPolicy,
}


def policy_for(pipeline: Any, height: int | None = None, width: int | None = None) -> PipelinePolicy:
    """Wrap a diffusers pipeline in the policy of its family.

    Args:
        pipeline: The pipeline.
        height: Of the pictures, in pixels; None takes the model's own size.
        width: Of the pictures, in pixels; None takes the model's own size.

    Raises:
        ConfigError: No family knows the pipeline's class, or the size does not fit it.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise ConfigError(f"no model family for {name}; there are families for: {', '.join(sorted(FAMILIES))}.")
    return FAMILIES[name](pipeline, height, width)
