"""A frozen denoiser in fewer bits: the linear layers of its blocks keep int8 or NF4, and compute in the model's own dtype."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from pamela_rl.diffusion.settings import Quantization
from pamela_rl.errors import ConfigError

BLOCK = 64  # weights that share a scale in NF4
NF4 = (  # quantiles of the normal distribution, 0 among them (QLoRA, arXiv:2305.14314, appendix E)
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class QuantizedLinear(nn.Linear):
    """A frozen linear layer that keeps its weight in few bits; gradients pass through it to its inputs.

    Its weight is put together again for each call, forward and backward, so that a call is the same with and without gradients
    and no row depends on another. One is made of a layer in place, so that hooks on that stay.
    """

    dtype: torch.dtype
    packed: nn.Parameter
    scales: nn.Parameter
    levels: nn.Parameter | None

    @classmethod
    def replace(cls, layer: nn.Linear, kind: Quantization) -> None:
        """Quantize a layer: "int8" with a scale for each output, or "nf4" with one for each 64 weights."""
        dtype, weight = layer.weight.dtype, layer.weight.detach().float()
        parts = _pack_int8(weight) if kind == "int8" else _pack_nf4(weight)
        del layer.weight
        layer.__class__ = cls
        for name, value in zip(("packed", "scales", "levels"), parts, strict=True):
            layer.register_parameter(name, None if value is None else nn.Parameter(value, requires_grad=False))
        layer.dtype = dtype  # type: ignore[assignment]

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight that it computes with, ``(out, in)``."""
        if self.levels is None:
            return (self.packed * self.scales.unsqueeze(1)).to(self.dtype)
        pairs = torch.stack([self.levels[(self.packed >> 4).int()], self.levels[(self.packed & 15).int()]], dim=-1)
        blocks = pairs.view(-1, BLOCK) * self.scales.unsqueeze(1)
        return blocks.flatten()[: self.in_features * self.out_features].view(self.out_features, -1).to(self.dtype)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        shape = self.out_features, self.in_features  # all that diffusers asks of it where an adapter is loaded
        destination[f"{prefix}weight"] = torch.empty(shape, dtype=self.dtype, device="meta")

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply, ``(…, in)`` to ``(…, out)``."""
        return cast(Tensor, _Multiply.apply(inputs, self))


class _Multiply(torch.autograd.Function):
    """A product whose backward pass makes the weight anew instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: QuantizedLinear) -> Tensor:
        """Multiply by the layer's weight, ``(…, in)`` to ``(…, out)``."""
        ctx.layer = layer
        weight = layer.weight
        return linear(inputs.to(weight.dtype), weight, None if layer.bias is None else layer.bias.to(weight.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the inputs, ``(…, in)``."""
        return gradient @ ctx.layer.weight, None


def quantize_denoiser(denoiser: nn.Module, kind: Quantization) -> None:
    """Put the linear layers inside a denoiser's blocks into few bits, one after another; what is outside of them stays.

    Raises:
        ConfigError: It has no such layers.
    """
    named = denoiser.named_modules()
    found = [layer for name, layer in named if type(layer) is nn.Linear and "block" in name]
    if not found:
        raise ConfigError(
            f"model.quantization is {kind!r}, but {type(denoiser).__name__} has no blocks with linear layers; leave it at no."
        )
    for layer in found:
        QuantizedLinear.replace(layer, kind)


def _pack_int8(weight: Tensor) -> tuple[Tensor, Tensor, None]:
    scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
    return (weight / scales.unsqueeze(1)).round().to(torch.int8), scales, None


def _pack_nf4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    flat = weight.flatten()
    blocks = pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(dim=1).clamp(min=1e-12)
    levels = scales.new_tensor(NF4)
    borders = (levels[1:] + levels[:-1]) / 2
    nearest = torch.bucketize(blocks / scales.unsqueeze(1), borders).to(torch.uint8).flatten()
    return nearest[::2] << 4 | nearest[1::2], scales, levels
