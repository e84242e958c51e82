"""Gradients added up over micro-batches and processes so that the order of the sum does not show."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor


class GradientSum:
    """Adds one update's gradients in fp64: rounded once, at the end, however the update was cut and shared out.

    Args:
        parameters: Of the adapter; their ``grad`` is empty.
    """

    def __init__(self, parameters: Sequence[Tensor]):
        self._parameters = parameters
        self._sums = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]

    def add(self) -> None:
        """Take over what a backward pass left in the parameters' ``grad``."""
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            if parameter.grad is not None:
                total += parameter.grad
                parameter.grad = None

    def settle(self, accelerator: Accelerator) -> None:
        """Sum over processes, one without a pair in this update included, and hand the whole to the parameters."""
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            parameter.grad = accelerator.reduce(total, reduction="sum").to(parameter.dtype)
