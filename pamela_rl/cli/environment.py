"""What a report of a fault needs to know of an installation, without secrets and without the user's name."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from pamela_rl.cli.launching import has_own_config
from pamela_rl.cli.shipped import configs_folder


def environment() -> str:
    """Return versions, device, Accelerate's settings, where configs are and whether the hub is asked, as lines of text."""
    rows = {
        "pamela_rl": f"{version('pamela_rl')}, configs in {_without_home(configs_folder())}",
        "python": f"{platform.python_version()}, {platform.platform()}",
        **_versions(),
        "device": _device(),
        "accelerate config": _accelerate_config(),
        "hub": f"{'offline' if _hub_is_offline() else 'online'}, cache in {_without_home(_hub_cache())}",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
    }
    return "\n".join(f"{name:24} {text}" for name, text in rows.items())


def _versions() -> dict[str, str]:
    """Versions of the dependencies, those of extras where they are installed."""
    found = {}
    for requirement in (row for row in requires("pamela_rl") or [] if 'extra == "dev"' not in row):
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if "extra" not in requirement:
                found[name] = "missing"
    return found


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return "; ".join(f"{card.name}, {card.total_memory / 2**30:.0f} GB" for card in cards)
    cores = f"{os.cpu_count()} cores"
    return f"mps, {cores}" if torch.backends.mps.is_available() else f"cpu, {cores}"


def _accelerate_config() -> str:
    from accelerate.commands.config.config_args import load_config_from_file

    if not has_own_config():
        return "none of your own"
    config = load_config_from_file(None)
    return f"{config.distributed_type}, {config.num_processes} processes, mixed precision {config.mixed_precision}"


def _hub_is_offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE)


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _without_home(path: Path) -> str:
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
