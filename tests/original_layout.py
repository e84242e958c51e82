"""A small Stable Diffusion as one file with the names of the original code (CompVis), which single checkpoints have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(pipeline: Any, path: Path) -> Path:
    """Write a Stable Diffusion 1.x pipeline's weights into one file."""
    weights = {f"model.diffusion_model.{_unet(k)}": v for k, v in pipeline.unet.state_dict().items()}
    for key, tensor in pipeline.vae.state_dict().items():
        name = _vae(key, blocks=len(pipeline.vae.config.block_out_channels))
        is_linear = ".attn_1." in name and name.endswith("weight") and tensor.dim() == 2
        weights[f"first_stage_model.{name}"] = tensor[..., None, None] if is_linear else tensor
    text: dict[str, Tensor] = pipeline.text_encoder.state_dict()
    prefix = "cond_stage_model.transformer."
    weights |= {f"{prefix}{k if k.startswith('text_model.') else f'text_model.{k}'}": v for k, v in text.items()}
    save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, path)
    return path


def _unet(key: str, layers: int = 1) -> str:
    """The original name of one of a UNet's weights, with ``layers`` blocks a level on the way down."""
    for ours, theirs in _UNET_ENDS.items():
        if key.startswith(f"{ours}."):
            return key.replace(ours, theirs, 1)
    for ours, theirs in _RESNET.items():
        if ".resnets." in key:
            key = key.replace(f".{ours}.", f".{theirs}.")
    level = r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\."
    found = re.match(level, key)
    if found is None:
        key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}", key)
        return key.replace("mid_block.attentions.0", "middle_block.1")
    way, block, kind, row, rest = found[1], int(found[2]), found[3], int(found[4]), key[found.end() :]
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (block + 1)}.0.{rest.replace('conv.', 'op.', 1)}"
    if kind == "upsamplers":
        return f"output_blocks.{(layers + 1) * block + layers}.{_UPSAMPLER}.{rest}"
    place = (layers + 1) * block + row + (way == "down")
    return f"{'input' if way == 'down' else 'output'}_blocks.{place}.{int(kind == 'attentions')}.{rest}"


_UPSAMPLER = 2  # after a residual block and attention, which the tiny UNet's first level up has


def _vae(key: str, blocks: int) -> str:
    """The original name of one of an autoencoder's weights."""
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if "attentions" in key:
        for ours, theirs in _ATTENTION.items():
            key = key.replace(f".{ours}.", f".{theirs}.")
        return key.replace("mid_block.attentions.0", "mid.attn_1")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{blocks - 1 - int(m[1])}.block.", key)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample.", key)
