"""The files of an adapter: written for diffusers and for ComfyUI, read back, and held against a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pamela_rl.diffusion.adapter_bank import DOWN, UP
from pamela_rl.diffusion.comfyui import comfyui_tensors
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import COMFYUI, HEADER, WEIGHTS, read_file, unreadable
from pamela_rl.errors import AdapterError
from pamela_rl.storage import write_tensors


def write_weights(
    policy: Policy, state: Mapping[str, Tensor], rank: int, facts: Mapping[str, str], folder: Path
) -> None:
    """Write an adapter as diffusers loads it, and, where ComfyUI knows the model, by the names that it reads.

    Args:
        policy: Whose model it is for.
        state: By PEFT's names, with alpha / rank multiplied in: in the file alpha is the rank, for who reads tensors alone
            takes it to be.
        rank: Of its layers.
        facts: Go into the files' headers.
        folder: Gets the files.
    """
    settings = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=list(policy.targets), init_lora_weights="gaussian"
    ).to_dict()
    layers = {
        f"{policy.component}_lora_layers": dict(state),
        f"{policy.component}_lora_adapter_metadata": settings | {"target_modules": sorted(settings["target_modules"])},
    }
    policy.pipeline.save_lora_weights(folder, **layers)
    tensors, header = read_file(folder / WEIGHTS)
    ours = {f"{HEADER}{key}": value for key, value in facts.items()}
    write_tensors(folder / WEIGHTS, tensors, header | ours)
    renamed = comfyui_tensors(policy.pipeline_class, state)
    if renamed is not None:
        write_tensors(folder / COMFYUI, renamed, {"format": "pt"} | ours)


def check_fits(pipe: Any, folder: Path) -> None:
    """Refuse an adapter with layers that a pipeline does not have, or has in another width.

    Raises:
        AdapterError: Names the first such layer; or the file cannot be read.
    """
    path = folder / WEIGHTS
    try:
        with safe_open(str(path), framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error
    for key, shape in shapes.items():
        for end, place, width in ((DOWN, 1, "in_features"), (UP, 0, "out_features")):
            if key.endswith(end):
                layer = key.removesuffix(f".{end}")
                theirs = getattr(_layer(pipe, layer), width, None)
                if theirs != shape[place]:
                    reason = "that layer is missing" if theirs is None else f"it has {theirs}"
                    raise AdapterError(
                        f"the adapter in {folder} is for a model whose {layer} has {shape[place]} {width}, but in this "
                        f"{type(pipe).__name__} {reason}; load it into the model that it was trained on."
                    )


def _layer(pipe: Any, name: str) -> nn.Module | None:
    part, _, rest = name.partition(".")
    try:
        found: nn.Module = getattr(pipe, part).get_submodule(rest)
    except AttributeError:
        return None
    return found
