"""A frozen base model cut over processes (FSDP2), for models that one device cannot hold; adapters stay whole."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from pamela_rl.errors import ConfigError


def shard_blocks(denoiser: Any, device: torch.device | str) -> None:
    """Keep a share of each block's frozen weights on every process; a block is gathered while it computes.

    Adapters that are added later are not cut: they are small, every process holds them whole, and their gradients are
    summed as without sharding. From then on all processes must call the denoiser equally often.

    Args:
        denoiser: On the CPU; each block is moved as it is cut, so that no device ever holds all of them.
        device: Where it shall live.

    Raises:
        ConfigError: There is one process only, or the denoiser does not say which of its blocks may be cut.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() < 2:
        raise ConfigError("the base model is to be sharded but there is one process; launch several, or do not shard.")
    names = set(getattr(denoiser, "_no_split_modules", None) or getattr(denoiser, "_repeated_blocks", None) or ())
    blocks = [module for module in denoiser.modules() if type(module).__name__ in names]
    if not blocks:
        raise ConfigError(f"{type(denoiser).__name__} does not say which of its blocks may be sharded.")
    mesh = init_device_mesh(torch.device(device).type, (torch.distributed.get_world_size(),))
    for block in reversed(blocks):  # inner ones first
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
