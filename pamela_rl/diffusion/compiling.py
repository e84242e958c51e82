"""A compiled denoiser: fewer, larger kernels in sampling and in training."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import ConfigError

_MOST_GRAPHS = 64  # of one function: a UNet's blocks have as many shapes as levels, with and without gradients
_KEPT = "TORCHINDUCTOR_CACHE_DIR"  # its default lies in a folder for temporary files


def compile_denoiser(policy: Policy, what: str, **options: Any) -> None:
    """Compile a denoiser in place; each graph at its first call, from the cache where it was compiled before.

    Calls have few shapes (short ones are padded) and adapters come from outside, so that no person compiles anything again.

    Args:
        policy: Its denoiser on the device.
        what: "full", or "blocks" for those of its modules that repeat.
        options: Further ones of ``torch.compile``.

    Raises:
        ConfigError: No module repeats.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # seconds, for those who compile alone

    if os.environ.get(_KEPT) in (
        None,
        default_cache_dir(),
    ):  # torch writes its own default there, as soon as it is asked
        os.environ[_KEPT] = str(Path.home() / ".cache" / "pamela_rl" / "compiled")
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_GRAPHS)
    parts = [policy.denoiser] if what == "full" else repeated_blocks(policy.denoiser)
    if not parts:
        raise ConfigError(
            f"none of {type(policy.denoiser).__name__}'s modules repeats; use model.compile: full, or no."
        )
    for part in parts:
        part.compile(dynamic=False, **options)
    policy.compiled = True


def repeated_blocks(denoiser: nn.Module) -> list[nn.Module]:
    """List the blocks that a class names as repeated, else the members of lists that hold several of one class."""
    names = set(getattr(denoiser, "_repeated_blocks", None) or ())
    if not names:
        lists = (module for module in denoiser.children() if isinstance(module, nn.ModuleList))
        counts = Counter(type(block).__name__ for blocks in lists for block in blocks)
        names = {name for name, count in counts.items() if count > 1}
    return [module for module in denoiser.modules() if type(module).__name__ in names]
