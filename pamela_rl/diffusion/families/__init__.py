"""One small file a family of models; the pipeline's class decides which. May import what ``diffusion`` may."""

from __future__ import annotations

from typing import Any

from pamela_rl.diffusion.families.flux import FluxPolicy
from pamela_rl.diffusion.families.flux2 import Flux2Policy
from pamela_rl.diffusion.families.flux2_klein import Flux2KleinPolicy
from pamela_rl.diffusion.families.qwen_image import QwenImagePolicy
from pamela_rl.diffusion.families.sana import SanaPolicy
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.families.stable_diffusion_3 import StableDiffusion3Policy
from pamela_rl.diffusion.families.stable_diffusion_xl import StableDiffusionXLPolicy
from pamela_rl.diffusion.families.z_image import ZImagePolicy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import ConfigError

FAMILIES: dict[str, type[Policy]] = {
    family.pipeline_class: family
    for family in (
        StableDiffusionPolicy, StableDiffusionXLPolicy, StableDiffusion3Policy, FluxPolicy, Flux2Policy, Flux2KleinPolicy,
        QwenImagePolicy, ZImagePolicy, SanaPolicy,
    )
}  # fmt: skip
"""By the name of the pipeline's class; :func:`register_family` adds one of your own."""


def register_family(family: type[Policy]) -> None:
    """Make a family of one's own the one for its ``pipeline_class``, instead of any that was there."""
    FAMILIES[family.pipeline_class] = family


def policy_for(pipeline: Any, height: int | None = None, width: int | None = None) -> Policy:
    """Wrap a diffusers pipeline in the policy of its family.

    Args:
        pipeline: The pipeline.
        height: Of the images, in pixels; None takes the model's own size.
        width: Of the images, in pixels; None takes the model's own size.

    Raises:
        ConfigError: There is no family for the pipeline's class, or the size does not fit it.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise ConfigError(
            f"no model family for {name}; there are families for: {', '.join(sorted(FAMILIES))}. Give a file with one of "
            "your own as model.family."
        )
    return FAMILIES[name](pipeline, height, width)
