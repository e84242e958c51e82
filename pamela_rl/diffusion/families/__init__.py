"""One small file a family of models; the pipeline's class tells which."""

from __future__ import annotations

from typing import Any

from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.errors import ConfigError

FAMILIES: dict[str, type[StableDiffusionPolicy]] = {"StableDiffusionPipeline": StableDiffusionPolicy}


def policy_for(pipeline: Any) -> StableDiffusionPolicy:
    """Wrap a diffusers pipeline in the policy of its family.

    Raises:
        ConfigError: No family knows the pipeline's class.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise ConfigError(f"no model family for {name}; there are families for: {', '.join(sorted(FAMILIES))}.")
    return FAMILIES[name](pipeline)
