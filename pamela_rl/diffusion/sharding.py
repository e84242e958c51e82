"""A frozen base model cut over processes (FSDP2), for models that one device cannot hold; adapters stay whole."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from pamela_rl.errors import ConfigError

WEIGHTS = "diffusion_pytorch_model.safetensors"  # diffusers' names of a model's only file, and of the index of several
INDEX = f"{WEIGHTS}.index.json"
REMEDY = "download the model or save it again."


def empty_denoiser(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Build a pipeline's denoiser without reading its weights, so that ``shard_denoiser`` reads a process's share alone.

    Its buffers are there, made by its class; its parameters are on the meta device, in the dtype of an ordinary load.

    Args:
        folder: Of the pipeline.
        dtype: Of the weights.

    Returns:
        The denoiser under its component's name. Nothing where diffusers has to load it whole: its class is not diffusers'
        own, its weights are quantized, or its files have other names.
    """
    import diffusers
    from accelerate import init_empty_weights

    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    component = "unet" if "unet" in index else "transformer"
    library, kind = index.get(component, ("", ""))
    place = folder / component
    if library != "diffusers" or not any((place / file).is_file() for file in (WEIGHTS, INDEX)):
        return {}
    model: Any = getattr(diffusers, kind)
    config = model.load_config(place)
    if config.get("quantization_config") is not None:
        return {}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # as diffusers does; it decides the dtype of some buffers
    try:
        with init_empty_weights(include_buffers=False):
            denoiser = model.from_config(config)
    finally:
        torch.set_default_dtype(before)
    in_fp32 = set(model._keep_in_fp32_modules or ())
    for name, weight in denoiser.state_dict(keep_vars=True).items():
        if weight.is_floating_point():
            weight.data = weight.data.to(torch.float32 if in_fp32 & set(name.split(".")) else dtype)
    denoiser.register_to_config(_name_or_path=str(place))
    return {component: denoiser}


def shard_denoiser(denoiser: Any, device: torch.device | str) -> None:
    """Keep a share of the frozen weights on every process; a block is gathered while the one before it computes.

    What lies outside of the blocks, such as embeddings, is gathered by the denoiser's first call and stays so until a
    backward pass ends: most calls follow one another. Adapters that are added later are not cut: they are small, every
    process holds them whole, and their gradients are summed as without sharding. From then on all processes must call the
    denoiser equally often.

    Args:
        denoiser: On the CPU; each block is moved as it is cut, so that no device ever holds all of them. Or without
            weights, from ``empty_denoiser``.
        device: Where it shall live.

    Raises:
        ConfigError: There is one process only, the denoiser does not say which of its blocks may be cut, or its files lack
            one of its weights or cannot be read.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() < 2:
        raise ConfigError("the base model is to be sharded but there is one process; launch several, or do not shard.")
    names = set(getattr(denoiser, "_no_split_modules", None) or getattr(denoiser, "_repeated_blocks", None) or ())
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
    if not blocks:
        raise ConfigError(f"{type(denoiser).__name__} does not say which of its blocks may be sharded.")
    mesh = init_device_mesh(torch.device(device).type, (torch.distributed.get_world_size(),))
    for module in (*reversed(blocks), denoiser):  # inner ones first
        fully_shard(module, mesh=mesh)
    if any(weight.is_meta for weight in denoiser.parameters()):
        _read_share(denoiser, torch.device(device))


def _read_share(denoiser: Any, device: torch.device) -> None:
    """Read this process's share of all parameters from the denoiser's files, and persistent buffers whole."""
    folder, weights = Path(denoiser.config._name_or_path), denoiser.state_dict()
    try:
        stored = _stored(folder)
        denoiser._fix_state_dict_keys_on_load(stored)  # diffusers' own: weights in some old files have other names
        missing = [name for name, weight in weights.items() if weight.is_meta and name not in stored]
        if missing:
            raise ConfigError(f"{folder} lacks {len(missing)} of the denoiser's weights, e.g. {missing[0]}; {REMEDY}")
        with ExitStack() as stack:
            files = {path: stack.enter_context(safe_open(path, "pt")) for path in {path for path, _ in stored.values()}}
            share = {
                name: _read(files[path], key, weights[name], device)
                for name, (path, key) in stored.items()
                if name in weights
            }
        denoiser.load_state_dict(share, strict=False, assign=True)  # buffers that no file has stay as they were made
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"the weights in {folder} cannot be read ({str(error).splitlines()[0]}); {REMEDY}") from error


def _stored(folder: Path) -> dict[str, tuple[Path, str]]:
    """Find the file that each weight of a model is in, and its name there."""
    if (folder / INDEX).is_file():
        places = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {name: (folder / file, name) for name, file in places.items()}
    with safe_open(folder / WEIGHTS, "pt") as file:
        return {name: (folder / WEIGHTS, name) for name in file.keys()}  # noqa: SIM118


def _read(file: Any, key: str, weight: Tensor, device: torch.device) -> Tensor:
    """Read from a safetensors file what this process holds of a weight, in its dtype.

    Raises:
        ConfigError: The file's tensor is of another shape.
    """
    stored = file.get_slice(key)
    if tuple(stored.get_shape()) != weight.shape:
        shapes = f"{tuple(stored.get_shape())} in its file but {tuple(weight.shape)} by its config"
        raise ConfigError(f"the denoiser's weight {key} is of shape {shapes}; {REMEDY}")
    if not isinstance(weight, DTensor):
        whole: Tensor = file.get_tensor(key).to(device, weight.dtype)
        return whole
    mesh, count = weight.device_mesh, weight.to_local().shape[0]
    most = -(-weight.shape[0] // mesh.size())  # FSDP2 cuts the first dimension as torch.chunk does
    start = mesh.get_local_rank() * most
    rows = stored[start : start + count].to(device, weight.dtype)
    return DTensor.from_local(
        rows, mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )
