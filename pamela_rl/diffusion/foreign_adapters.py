"""An adapter to train on from: a person's own, or one that any program saved for the same base model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pamela_rl.diffusion.adapter_bank import DOWN, UP, Adapter
from pamela_rl.diffusion.adapters import copy_adapter, unload
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import INFO, adapter_file
from pamela_rl.errors import AdapterError

_START = "pamela_foreign"
_OTHER_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "magnitude_vector": "DoRA",
    "lora_mid": "a convolution's",
}


def begin_from(policy: Policy, start: Path, name: str) -> None:
    """Give an adapter that is on the denoiser the effect of a saved one, to train on from there.

    Of one that another program saved, alpha and rank may differ: its scale is multiplied in, and ranks that it lacks begin as
    fresh ones do. Layers that it lacks begin as the base model.

    Args:
        policy: The pipeline, without an adapter from a file.
        start: The folder of a person's adapter, or a ``.safetensors`` file or its folder.
        name: Of the adapter on the denoiser.

    Raises:
        AdapterError: It is no LoRA of linear layers of this denoiser alone, or has a higher rank or other layers.
    """
    own = policy.adapters[name]
    if (start / INFO).is_file():
        copy_adapter(policy, start, name)
    else:
        file = adapter_file(start)
        _widen(own, _effect(policy, file), file)


def _effect(policy: Policy, file: Path) -> dict[str, Tensor]:
    """Load a file as diffusers does; matrices by PEFT's names, with each layer's scale multiplied into the second."""
    _check_kind(file)
    pipe, denoiser = policy.pipeline, policy.denoiser
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that are for other parts
            pipe.load_lora_weights(file.parent, weight_name=file.name, adapter_name=_START)
        parts = [part for part, names in pipe.get_list_adapters().items() if _START in names]
        if parts != [policy.component]:
            raise AdapterError(
                f"the adapter {file} is for {' and '.join(parts) or 'nothing'} of this pipeline; what is trained is its "
                f"{policy.component} alone, so give an adapter of that."
            )
        found = get_peft_model_state_dict(denoiser, adapter_name=_START)
        scales = {path: layer.scaling[_START] for path, layer in denoiser.named_modules() if hasattr(layer, "scaling")}
        return {
            key: matrix.detach().float().cpu() * (scales[key.removesuffix(f".{UP}")] if key.endswith(UP) else 1.0)
            for key, matrix in found.items()
        }
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AdapterError(
            f"the adapter {file} cannot be loaded ({reason}); give one of this base model, as diffusers loads it."
        ) from error
    finally:
        if any(_START in names for names in pipe.get_list_adapters().values()):
            pipe.unload_lora_weights()
            unload(policy)


def _check_kind(file: Path) -> None:
    try:
        with safe_open(str(file), framework="pt") as opened:
            keys = list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"the adapter {file} cannot be read ({error}); give a .safetensors file.") from error
    for part, kind in _OTHER_KINDS.items():
        if any(part in key for key in keys):
            raise AdapterError(
                f"the adapter {file} is {kind}, which people's adapters here cannot be; give a LoRA of linear layers, or make "
                "it part of the base model: load it with diffusers, pipe.fuse_lora(), pipe.save_pretrained(folder)."
            )


@torch.no_grad()
def _widen(own: Adapter, effect: Mapping[str, Tensor], file: Path) -> None:
    """Put an effect into the first ranks of a fresh adapter."""
    surplus = sorted(effect.keys() - own.shapes.keys())
    if surplus:
        raise AdapterError(
            f"the adapter {file} has {len(surplus)} matrices of layers that are not trained, e.g. {surplus[0]}; name its layers "
            "as train.lora.targets."
        )
    rank = max(matrix.shape[0] for key, matrix in effect.items() if key.endswith(DOWN))
    if rank > own.settings.rank:
        raise AdapterError(
            f"the adapter {file} has rank {rank}, the one to train {own.settings.rank}; set train.lora.rank to {rank} or more."
        )
    for key, matrix in own.matrices.items():
        if key in effect and key.endswith(DOWN):
            matrix[: len(effect[key])] = effect[key].to(matrix)
        elif key in effect:
            matrix[:, : effect[key].shape[1]] = (effect[key] / own.settings.scale).to(matrix)
