"""A pipeline by name, and the policy made of it: sizes, precision, and what keeps memory small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.sharding import shard_blocks
from pamela_rl.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class ModelSettings:
    """The base model and how it sits in memory. Its adapter is always fp32.

    Attributes:
        name: "world", "flow" (its flow-matching twin), a hub id or a folder.
        dtype: Of the base model's weights.
        height: Of the pictures, in pixels; None takes the model's own size.
        width: Of the pictures, in pixels; None takes the model's own size.
        gradient_checkpointing: Compute activations twice instead of keeping them; the same numbers.
        vae_slicing: Decode one picture at a time.
        offload: Keep text encoders and VAE on the CPU while they have nothing to do.
        detach_unconditional: No gradient through guidance's unconditional branch: a forward without a backward.
        compile_blocks: Compile the denoiser's repeated blocks; sampling then runs the trained graph too.
        shard: Cut the base model over processes (FSDP2), for models that one device cannot hold.
    """

    name: str = "world"
    dtype: Literal["float32", "bfloat16"] = "float32"
    height: int | None = None
    width: int | None = None
    gradient_checkpointing: bool = False
    vae_slicing: bool = False
    offload: bool = False
    detach_unconditional: bool = False
    compile_blocks: bool = False
    shard: bool = False


def load_pipeline(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Load a diffusers pipeline of any family by its hub id or folder, from safetensors alone.

    Raises:
        ConfigError: There is no such pipeline.
    """
    from diffusers import DiffusionPipeline

    try:
        pipeline = DiffusionPipeline.from_pretrained(name, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, ImportError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"no diffusers pipeline can be loaded from {name!r} ({reason}); give a hub id or a folder."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def prepare_policy(pipeline: Any, settings: ModelSettings, device: torch.device | str) -> Policy:
    """Make a policy of a pipeline as the settings ask, its denoiser on ``device``.

    Raises:
        ConfigError: No family knows the pipeline, or it cannot do what is asked.
    """
    policy = policy_for(pipeline, settings.height, settings.width)
    policy.offload, policy.detach_unconditional = settings.offload, settings.detach_unconditional
    if settings.shard:
        shard_blocks(policy.denoiser, device)
        policy.sharded = True
    if settings.offload:
        policy.denoiser.to(device)
    else:
        pipeline.to(device)
    if settings.gradient_checkpointing:
        policy.denoiser.enable_gradient_checkpointing()
        if pipeline.vae._supports_gradient_checkpointing:  # gradients go through it where a reward's own are taken
            pipeline.vae.enable_gradient_checkpointing()
    if settings.vae_slicing:
        pipeline.vae.enable_slicing()
    if settings.compile_blocks:
        compile_blocks(policy)
    return policy


def compile_blocks(policy: Policy, **options: Any) -> None:
    """Compile the denoiser's repeated blocks; from then on sampling runs the graph that training differentiates.

    Raises:
        ConfigError: The denoiser says of none of its blocks that they repeat.
    """
    if not getattr(policy.denoiser, "_repeated_blocks", None):
        raise ConfigError(f"{type(policy.denoiser).__name__} has no blocks to compile; leave compile_blocks out.")
    policy.denoiser.compile_repeated_blocks(**options)
    policy.compiled = True
