"""Loading of published weights from a file, a folder or the hub, as tensors only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pamela_rl.errors import ConfigError


def find_weights(source: str | Path, names: Sequence[str]) -> Path:
    """Find a weights file.

    Args:
        source: The file itself, a folder, or a repository of the hub.
        names: Published names of the file, the hub's first; in a folder, a ``.safetensors`` file of the same name is
            preferred.

    Raises:
        ConfigError: It is not found.
    """
    place = Path(source)
    if place.is_file():
        return place
    if place.is_dir():
        candidates = [file for name in names for file in (str(Path(name).with_suffix(".safetensors")), name)]
        for name in candidates:
            if (place / name).is_file():
                return place / name
        raise ConfigError(f"the folder {place} holds none of {', '.join(candidates)}; put one of them there.")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(source), names[0]))
    except Exception as error:  # whatever the hub, the connection or the file system raised
        raise ConfigError(
            f"{names[0]} of {source} is neither on this machine nor can it be downloaded ({str(error)[:200]}); "
            f"download it from https://huggingface.co/{source} and give its path, or the path of its folder, as source."
        ) from error


def companion_source(source: str | Path | None, published: str) -> str:
    """Return where the other files of a model are: in the folder ``source``, or else where they are published.

    Files that are missing in a folder are not downloaded; ``source`` may also be a single weights file.
    """
    return str(source) if source is not None and Path(source).is_dir() else published


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a state dict, on the CPU, from ``.safetensors`` or, as most rewards are published, ``.pt`` or ``.pth``.

    PyTorch's own format is a pickle. It is read with ``weights_only``, which accepts only tensors and plain containers, so
    that no code in the file is run.

    Raises:
        ConfigError: The file cannot be read, or holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle, zip and the file system each raise their own
        raise ConfigError(
            f"{path} cannot be read as tensors alone ({str(error)[:200]}), and reading it any other way would run "
            "whatever code it holds; download it again from where it is published, or give a .safetensors file."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{path} holds a {type(state).__name__}; a state dict of tensors by name is needed.")
    return state


def strip_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix``, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_weights(module: nn.Module, state: Mapping[str, Tensor], origin: str | Path) -> None:
    """Load tensors into a module, with the exact set of names and shapes.

    Raises:
        ConfigError: Names or shapes differ; says which, and names ``origin``.
    """
    expected = module.state_dict()
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {shapes[name]}"
        for name in sorted(expected.keys() & state.keys())
        if tuple(state[name].shape) != shapes[name]
    ]
    wrong += [f"{name} is missing" for name in sorted(expected.keys() - state.keys())]
    wrong += [f"{name} is unknown" for name in sorted(state.keys() - expected.keys())]
    if wrong:
        raise ConfigError(
            f"{origin} does not hold the weights of {type(module).__name__}: {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; give the file that the reward's authors publish."
        )
    module.load_state_dict(state)
