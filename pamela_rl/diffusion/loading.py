"""A pipeline by name, and the policy made of it: sizes, precision, and what keeps memory small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from pamela_rl.diffusion.compiling import compile_denoiser
from pamela_rl.diffusion.cuda_graphs import CUDAGraphs
from pamela_rl.diffusion.families import policy_for, register_family
from pamela_rl.diffusion.memory import decoded_at_once
from pamela_rl.diffusion.model_files import check_model_files, read_index, variant_of
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.quantization import quantize_denoiser
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.diffusion.sharding import empty_denoiser, shard_denoiser
from pamela_rl.errors import ConfigError
from pamela_rl.plugins import load_class
from pamela_rl.storage import SHIPPED_PIPELINES

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_pipeline(
    name: str | Path,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    config: Path | None = None,
    to_shard: bool = False,
) -> Any:
    """Load a diffusers pipeline of any family, from safetensors alone.

    Args:
        name: A shipped model ("world", "flow"), a folder, a single ``.safetensors`` file or a hub id. A folder whose weights are
            of a variant alone, e.g. fp16, is loaded as that.
        device: Where its weights go.
        dtype: Of its weights.
        config: For a single file: the folder of a pipeline of the same kind, for its parts' settings.
        to_shard: Leave the denoiser's weights in their files where that can be; :func:`prepare_policy` then reads each
            process's share. The pipeline stays on the CPU.

    Raises:
        ConfigError: There is no such pipeline, or its files are of another kind.
    """
    from diffusers import DiffusionPipeline

    check_model_files(name, config)
    source = SHIPPED_PIPELINES.get(str(name), Path(name))
    local = source.is_dir()
    try:
        parts: dict[str, Any] = _absent_components(source) if local else {}
        if to_shard:
            folder = source if local else Path(DiffusionPipeline.download(str(name), use_safetensors=True))
            parts |= empty_denoiser(folder, dtype)
        with _no_loading_bars() if local or config else nullcontext():  # a download is worth a bar
            if config is not None:
                pipeline = _from_single_file(Path(name), config, dtype)
            else:
                pipeline = DiffusionPipeline.from_pretrained(
                    source if local else str(name), dtype=dtype, use_safetensors=True,
                    variant=variant_of(source) if local else None, **parts,
                )  # fmt: skip
    except (OSError, ValueError, ImportError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"no diffusers pipeline can be loaded from {str(name)!r} ({reason}); give a hub id or a folder."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline if to_shard else pipeline.to(device)


def _from_single_file(file: Path, config: Path, dtype: torch.dtype) -> Any:
    """Load a pipeline of the class that ``config`` is of; a part that the file lacks is read from there, if its weights are."""
    import diffusers

    pipeline_class = getattr(diffusers, read_index(config)["_class_name"])
    return pipeline_class.from_single_file(
        str(file), config=str(config), dtype=dtype, local_files_only=True, **_absent_components(config)
    )


def _absent_components(folder: Path) -> dict[str, None]:
    """Name the components that a folder's ``model_index.json`` declares absent.

    diffusers requires them as explicit None, or refuses e.g. a Stable Diffusion 3 saved without its T5.
    """
    return {component: None for component, value in read_index(folder).items() if value == [None, None]}


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
    if settings.quantization != "no":
        quantize_denoiser(policy.denoiser, settings.quantization)
    policy.offload, policy.detach_unconditional = settings.offload, settings.detach_unconditional
    if settings.shard:
        shard_denoiser(policy.denoiser, device)
        policy.sharded = True
    if settings.offload:
        policy.denoiser.to(device)
    else:
        pipeline.to(device)
    if settings.gradient_checkpointing:
        policy.denoiser.enable_gradient_checkpointing()
        if pipeline.vae._supports_gradient_checkpointing:  # gradients go through it where a reward's own are taken
            pipeline.vae.enable_gradient_checkpointing()
    if settings.compile != "no":
        compile_denoiser(policy, settings.compile)
    policy.graphs = CUDAGraphs() if settings.cuda_graphs and policy.device.type == "cuda" else None
    if policy.device.type == "cuda":
        policy.decoded_at_once = decoded_at_once(policy, torch.cuda.get_device_properties(policy.device).total_memory)
    if policy.device.type == "cuda" and policy.pipeline_class.startswith("Flux"):
        torch.backends.cuda.enable_cudnn_sdp(False)  # failed at FLUX.1's shapes in bf16 on an H100 with PyTorch 2.11
    return policy
