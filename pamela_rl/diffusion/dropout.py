"""Which of its inputs an adapter does not see: from a key and a counter alone, so that any device and any batch agree."""

from __future__ import annotations

import torch
from torch import Tensor

KEPT = "adapter_inputs_kept"  # among the conditioning of a call: it goes with its rows, wherever these go
_BITS = 24


def kept_inputs(seed: int, iteration: int, image_ids: Tensor, steps: Tensor, size: int, share: float) -> Tensor:
    """Choose the inputs that each image's adapter sees at a noise level, and scale them up for those it does not.

    Args:
        seed: Of the run.
        iteration: Of the run.
        image_ids: ``(n,)``.
        steps: Index of each noise level, ``(n,)``.
        size: Inputs of all layers together.
        share: Of inputs that are dropped, 0 to below 1.

    Returns:
        0 or ``1 / (1 - share)``, fp32, ``(n, size)``.
    """
    state = torch.zeros_like(image_ids)
    for value in (seed, iteration, image_ids, steps):
        state = _mix(state ^ value)
    numbers = _mix(state.unsqueeze(1) + _mix(torch.arange(size, device=state.device)))
    kept = _logical_shift(numbers, 64 - _BITS) < round((1 - share) * 2**_BITS)
    return kept / (1 - share)


def _mix(numbers: Tensor) -> Tensor:
    """Scramble 64-bit integers (SplitMix64); products wrap around."""
    numbers = numbers - 0x61C8864680B583EB
    numbers = (numbers ^ _logical_shift(numbers, 30)) * -0x40A7B892E31B1A47
    numbers = (numbers ^ _logical_shift(numbers, 27)) * -0x6B2FB644ECCEEE15
    return numbers ^ _logical_shift(numbers, 31)


def _logical_shift(numbers: Tensor, by: int) -> Tensor:
    return (numbers >> by) & ((1 << (64 - by)) - 1)
