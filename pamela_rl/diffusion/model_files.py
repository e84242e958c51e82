"""The files of a base model, looked at before anything is loaded: a folder, a single file, or the hub's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pamela_rl.errors import ConfigError
from pamela_rl.storage import SHIPPED_PIPELINES

_INDEX = "model_index.json"
_PICKLED = (".bin", ".ckpt", ".pt", ".pth")
_SAFE = ".safetensors"


def is_single_file(name: str | Path) -> bool:
    """Whether a model's name means one file with all of its weights."""
    return str(name) not in SHIPPED_PIPELINES and Path(name).suffix in (_SAFE, *_PICKLED)


def read_index(folder: Path) -> dict[str, Any]:
    """Read which parts a pipeline's folder has, and of which classes."""
    found: dict[str, Any] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    return found


def check_model_files(
    name: str | Path, config: Path | None, called: str = "model.name", config_called: str = "model.config"
) -> None:
    """Refuse a model whose files cannot be loaded here; those of the hub are not looked at.

    Args:
        name: A shipped model, a folder, a ``.safetensors`` file or a hub id.
        config: The folder with the settings of a single file's parts.
        called: The setting that holds the name.
        config_called: The setting that holds the folder.

    Raises:
        ConfigError: A file is missing, is pickled, or comes without its parts' settings; or ``config`` is not used.
    """
    path = Path(name)
    if is_single_file(name):
        _check_single_file(path, config, called, config_called)
    elif config is not None:
        raise ConfigError(
            f"{config_called} is {config}, but only a single {_SAFE} file needs the settings of its parts, and {called} is "
            f"{str(name)!r}; leave it out."
        )
    elif path.is_dir() and str(name) not in SHIPPED_PIPELINES:
        _check_folder(path)


def variant_of(folder: Path) -> str | None:
    """Return the variant, e.g. "fp16", of a folder in which a part's weights exist as that alone; None where none do."""
    for files in _weights(folder).values():
        variants = [_variant(file) for file in files if file.suffix == _SAFE]
        if variants and None not in variants:
            return variants[0]
    return None


def _check_single_file(path: Path, config: Path | None, called: str, config_called: str) -> None:
    if not path.is_file():
        raise ConfigError(f"{called} is {str(path)!r}, but there is no such file.")
    if path.suffix in _PICKLED:
        raise ConfigError(
            f'{called} is {str(path)!r}, which is pickled and is not opened here; convert it: python -c "import torch, '
            f"safetensors.torch as s; w = torch.load({str(path)!r}, 'cpu', weights_only=True); "
            "s.save_file({k: v.contiguous() for k, v in w.get('state_dict', w).items() if torch.is_tensor(v)}, "
            f'{str(path.with_suffix(_SAFE))!r})"'
        )
    if config is None:
        raise ConfigError(
            f"{called} is the single file {str(path)!r}, whose parts' settings diffusers would ask the hub for; give the folder of "
            f"a pipeline of the same kind as {config_called}: its {_INDEX}, tokenizers, scheduler and configs, without weights."
        )
    if not (config / _INDEX).is_file():
        raise ConfigError(f"{config_called} is {config}, which holds no {_INDEX}; give the folder of a pipeline.")
    _check_pickled(config)


def _check_folder(folder: Path) -> None:
    if not (folder / _INDEX).is_file():
        raise ConfigError(
            f"no diffusers pipeline can be loaded from {str(folder)!r} (it holds no {_INDEX}); give a hub id or a folder of a "
            f"pipeline, or one {_SAFE} file."
        )
    _check_pickled(folder)


def _check_pickled(folder: Path) -> None:
    pickled = {
        part: files for part, files in _weights(folder).items() if not any(file.suffix == _SAFE for file in files)
    }
    if pickled:
        variants = [_variant(file) for files in pickled.values() for file in files]
        asked = "" if None in variants else f", variant={variants[0]!r}"
        raise ConfigError(
            f"{folder} has the weights of {', '.join(sorted(pickled))} as pickled files alone, which are not opened here; convert "
            f'them: python -c "from diffusers import DiffusionPipeline as P; P.from_pretrained({str(folder)!r}{asked})'
            f'.save_pretrained({str(folder) + "-safetensors"!r})"'
        )


def _weights(folder: Path) -> dict[str, list[Path]]:
    """Files of weights by the part they are of, those parts that have any."""
    found = {place.name: _weights_in(place) for place in sorted(folder.iterdir()) if place.is_dir()}
    return {part: files for part, files in found.items() if files}


def _weights_in(place: Path) -> list[Path]:
    stems = (
        "model",
        "pytorch_model",
        "diffusion_pytorch_model",
    )  # others, e.g. openvino_model.bin, are other libraries'
    files = [file for file in sorted(place.iterdir()) if file.suffix in (_SAFE, *_PICKLED)]
    return [file for file in files if file.name.split(".")[0].split("-")[0] in stems]


def _variant(file: Path) -> str | None:
    """The variant that a file's name ends with, of which shards have their number before or after it."""
    middle = file.name.split(".")[1:-1]
    return middle[0].split("-")[0] if middle else None
