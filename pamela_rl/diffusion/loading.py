"""A pipeline by name, and the policy made of it: sizes, precision, and what keeps memory small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pamela_rl.diffusion.families import policy_for, register_family
from pamela_rl.diffusion.plugins import load_class
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.diffusion.sharding import shard_blocks
from pamela_rl.errors import ConfigError
from pamela_rl.storage import SHIPPED_PIPELINES

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_pipeline(name: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Load a diffusers pipeline of any family, from safetensors alone.

    Args:
        name: A shipped model ("world", "flow"), a folder or a hub id.
        device: Where its weights go.
        dtype: Of its weights.

    Raises:
        ConfigError: There is no such pipeline.
    """
    from diffusers import DiffusionPipeline

    source = SHIPPED_PIPELINES.get(str(name), Path(name))
    try:
        if source.is_dir():
            with _no_loading_bars():
                pipeline = DiffusionPipeline.from_pretrained(
                    source, dtype=dtype, use_safetensors=True, **_absent_components(source)
                )
        else:
            pipeline = DiffusionPipeline.from_pretrained(str(name), dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, ImportError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"no diffusers pipeline can be loaded from {str(name)!r} ({reason}); give a hub id or a folder."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _absent_components(folder: Path) -> dict[str, None]:
    """Name the components that a folder's ``model_index.json`` declares absent.

    diffusers requires them as explicit None, or refuses e.g. a Stable Diffusion 3 saved without its T5.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return {component: None for component, value in index.items() if value == [None, None]}


@contextmanager
def _no_loading_bars() -> Iterator[None]:
    """Hide the progress bars of diffusers' and transformers' loaders."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    enabled = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in enabled:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in enabled:
            log.enable_progress_bar()


def prepare_policy(pipeline: Any, settings: ModelSettings, device: torch.device | str) -> Policy:
    """Make a policy of a pipeline as the settings ask, its denoiser on ``device``.

    Raises:
        ConfigError: No family knows the pipeline, or it cannot do what is asked.
    """
    if settings.family is not None:
        register_family(load_class(settings.family, Policy, "family"))  # type: ignore[type-abstract]
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
    if policy.device.type == "cuda" and policy.pipeline_class.startswith("Flux"):
        torch.backends.cuda.enable_cudnn_sdp(False)  # failed at FLUX.1's shapes in bf16 on an H100 with PyTorch 2.11
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
