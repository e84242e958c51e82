"""An adapter by the names that ComfyUI and the web UIs know: Kohya's, with ``.alpha`` beside each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pamela_rl.diffusion.adapter_bank import DOWN, UP

Pair = tuple[Tensor, Tensor]  # a layer's matrices, (rank, in) and (out, rank)
Namer = Callable[[Mapping[str, Pair]], dict[str, Pair] | None]
Blocks = Mapping[
    str, tuple[str, Mapping[str, tuple[str, ...]]]
]  # by kind of block: its name there, and which layers make up each of its own

_ATTENTION = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn_proj": ("attn.to_out.0",),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn_proj": ("attn.to_add_out",),
}
_FLUX_DOUBLE = {
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_mod_lin": ("norm1_context.linear",),
}
_FLUX_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}
_FLUX2_DOUBLE = {
    "img_mlp_0": ("ff.linear_in",),
    "img_mlp_2": ("ff.linear_out",),
    "txt_mlp_0": ("ff_context.linear_in",),
    "txt_mlp_2": ("ff_context.linear_out",),
}
_FLUX2_SINGLE = {"linear1": ("attn.to_qkv_mlp_proj",), "linear2": ("attn.to_out",)}
_FLUX: Blocks = {
    "transformer_blocks": ("double_blocks", _ATTENTION | _FLUX_DOUBLE),
    "single_transformer_blocks": ("single_blocks", _FLUX_SINGLE),
}
_FLUX2: Blocks = {
    "transformer_blocks": ("double_blocks", _ATTENTION | _FLUX2_DOUBLE),
    "single_transformer_blocks": ("single_blocks", _FLUX2_SINGLE),
}
_OUTPUTS = {"proj_mlp": 4}  # of a layer that is part of another there, as a multiple of its inputs; 1 for the others


def comfyui_tensors(pipeline_class: str, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename an adapter's weights.

    Args:
        pipeline_class: Of the base model; decides the names.
        state: By PEFT's names, with alpha / rank multiplied in.

    Returns:
        ``NAME.lora_down.weight``, ``NAME.lora_up.weight`` and ``NAME.alpha``, its rank; None where there are no names that
        ComfyUI reads for this class, or for one of the layers.
    """
    layers = {key.removesuffix(f".{DOWN}"): key for key in state if key.endswith(DOWN)}
    pairs = {layer: (state[key], state[f"{layer}.{UP}"]) for layer, key in layers.items()}
    named = _NAMERS[pipeline_class](pairs) if pipeline_class in _NAMERS else None
    if named is None:
        return None
    found = {}
    for name, (down, up) in named.items():
        found[f"{name}.lora_down.weight"], found[f"{name}.lora_up.weight"] = down.contiguous(), up.contiguous()
        found[f"{name}.alpha"] = torch.tensor(float(len(down)))
    return found


def _with_prefix(prefix: str) -> Namer:
    return lambda layers: {prefix + layer.replace(".", "_"): pair for layer, pair in layers.items()}


def _in_blocks(blocks: Blocks) -> Namer:
    """Names of models whose queries, keys and values are one layer there."""

    def named(layers: Mapping[str, Pair]) -> dict[str, Pair] | None:
        found, left = {}, set(layers)
        for block in sorted({".".join(layer.split(".")[:2]) for layer in layers}):
            kind, number = block.split(".")[0], block.split(".")[-1]
            theirs, table = blocks.get(kind, ("", {}))
            for name, parts in table.items():
                pairs = {layer: layers[f"{block}.{layer}"] for layer in parts if f"{block}.{layer}" in layers}
                if pairs:
                    found[f"lora_unet_{theirs}_{number}_{name}"] = _joined(parts, pairs)
                    left -= {f"{block}.{layer}" for layer in parts}
        return None if left else found

    return named


def _joined(parts: Sequence[str], pairs: Mapping[str, Pair]) -> Pair:
    """One layer's matrices of those that share its input: the first below one another, the second on the diagonal."""
    if len(parts) == 1:
        return pairs[parts[0]]
    downs = [pairs[layer][0] for layer in parts if layer in pairs]
    width = downs[0].shape[1]
    absent = {layer: downs[0].new_zeros(width * _OUTPUTS.get(layer, 1), 0) for layer in parts if layer not in pairs}
    ups = [absent[layer] if layer in absent else pairs[layer][1] for layer in parts]
    return torch.cat(downs), torch.block_diag(*ups)


_NAMERS: Mapping[str, Namer] = {
    "StableDiffusionPipeline": _with_prefix("lora_unet_"),
    "StableDiffusionXLPipeline": _with_prefix("lora_unet_"),
    "StableDiffusion3Pipeline": _with_prefix("lora_transformer_"),  # OneTrainer's; diffusers has no reader of either
    "FluxPipeline": _in_blocks(_FLUX),
    "Flux2Pipeline": _in_blocks(_FLUX2),
    "Flux2KleinPipeline": _in_blocks(_FLUX2),
    "QwenImagePipeline": _with_prefix("lora_unet_"),
    # its queries, keys and values are one layer in ComfyUI, which knows the parts by these names alone
    "ZImagePipeline": lambda layers: {f"diffusion_model.{layer}": pair for layer, pair in layers.items()},
}
