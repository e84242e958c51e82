"""Gradients summed over micro-batches and processes, independent of the order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype that sums are taken in: fp64, or fp32 on Apple's MPS, which has no fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


class GradientSum:
    """Sums one update's gradients in fp64 where the device has it: rounded once, at the end, however the update was divided.

    Args:
        parameters: Of the adapter; their ``grad`` is empty.
    """

    def __init__(self, parameters: Sequence[Tensor]):
        self._parameters = parameters
        self._sums = [torch.zeros_like(parameter, dtype=sum_dtype(parameter.device)) for parameter in parameters]

    def add(self) -> None:
        """Add the parameters' ``grad`` and clear it."""
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            if parameter.grad is not None:
                total += parameter.grad
                parameter.grad = None

    def reduce(self, accelerator: Accelerator) -> None:
        """Sum over processes, also one without a pair in this update, and set the parameters' ``grad``."""
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            parameter.grad = accelerator.reduce(total, reduction="sum").to(parameter.dtype)
