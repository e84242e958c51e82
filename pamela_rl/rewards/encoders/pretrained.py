"""Loading of open_clip models with pretrained weights, and fingerprints of them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from pamela_rl.errors import ConfigError

_HASHED_SUFFIXES = (
    ".json",
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".model",
    ".txt",
)  # files of a folder that determine features


def load_pretrained(name: str | Path, device: str) -> tuple[Any, Any, str]:
    """Load model, tokenizer and fingerprint, as ``FeatureEncoder.load``.

    Raises:
        ConfigError: The weights cannot be loaded.
    """
    import open_clip

    folder = Path(str(name).removeprefix("local-dir:"))
    local = folder.is_dir()
    reference, tag, weights = (f"local-dir:{folder}", None, {}) if local else _split_name(str(name))
    try:
        # without require_pretrained, open_clip returns a randomly initialised model if weights are missing;
        # without force_quick_gelu, it uses another activation than the weights were trained with, and only warns
        model = open_clip.create_model(
            reference,
            pretrained=tag,
            device=device,
            require_pretrained=True,
            force_quick_gelu=bool(weights.get("quick_gelu")),
        )
        tokenizer = open_clip.get_tokenizer(reference)
    except Exception as error:  # open_clip raises whatever the hub, the file system or torch raised
        raise ConfigError(_load_error(str(name), weights, error)) from error
    if local:
        return model, tokenizer, _hash_files(folder)
    identity = json.dumps([open_clip.get_model_config(reference), weights, model.visual.preprocess_cfg], sort_keys=True)
    stem = f"{reference}:{tag}" if tag else reference
    return model, tokenizer, f"{stem}:{hash_weights(model, identity)}"


def _split_name(name: str) -> tuple[str, str | None, dict[str, Any]]:
    """Split a name ``model:tag``, and return model, tag and open_clip's config of the weights.

    The config is empty for ``hf-hub:…`` and for unknown names, for which open_clip raises its own error.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    model, _, tag = name.partition(":")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not tags:
        return name, None, {}
    if tag and tag not in tags:
        raise ConfigError(f"open_clip has no weights {tag!r} of {model}; it has {', '.join(tags)}: give {model}:TAG.")
    tag = tag or tags[0]
    return model, tag, get_pretrained_cfg(model, tag)


def _load_error(name: str, weights: dict[str, Any], error: Exception) -> str:
    reason = " ".join(str(error).split())
    sentence = (
        f"the open_clip model {name!r} cannot be loaded ({reason[:300]}); give a folder that holds "
        "open_clip_config.json and open_clip_model.safetensors, or a name whose weights can be downloaded"
    )
    if repository := os.path.dirname(weights.get("hf_hub", "")) or name.partition("hf-hub:")[2]:
        sentence += f": these are got with 'hf download {repository} --local-dir FOLDER', where there is a connection"
    return sentence + (" (HF_HUB_OFFLINE is set here)." if os.environ.get("HF_HUB_OFFLINE") == "1" else ".")


def _hash_files(folder: Path) -> str:
    """Hash the weights, configs and tokenizer of a folder, independent of its path."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.suffix in _HASHED_SUFFIXES and file.is_file()):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def hash_weights(model: Any, identity: str) -> str:
    """Hash the weights themselves, because the weights behind a name can change."""
    digest = hashlib.sha256(identity.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
