"""How the (image, step) pairs of a trajectory are shared out over updates and denoiser calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.diffusion.batching import padded_rows
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.types import Trajectory


@dataclass(frozen=True)
class MicroBatch:
    """The pairs of one denoiser call: each image in the row it had when it was drawn, at one of its trained steps.

    Attributes:
        image: Row of each image in the trajectory, ``(batch_size,)``.
        slot: Which of its trained steps, ``(batch_size,)``.
        counted: False for rows that only fill the call up, ``(batch_size,)``.
    """

    image: Tensor
    slot: Tensor
    counted: Tensor


def shuffled_slots(trajectory: Trajectory, count: int, *key: int) -> Tensor:
    """Order the trained steps of each image, ``count`` of them, from ``key`` and its image id alone, ``(b, t)``."""
    orders = [torch.randperm(count, generator=generator_for(*key, i)) for i in trajectory.image_ids.tolist()]
    return torch.stack(orders).to(trajectory.step_index.device)


def micro_batches(
    trajectory: Trajectory,
    slots: Tensor,
    num_images: int,
    update: int,
    num_updates: int,
    batch_size: int,
    empty_too: bool = False,
) -> Iterator[MicroBatch]:
    """Cut one update's pairs into calls of ``batch_size``.

    All images of the iteration take part in every update where the number of updates divides the number of trained
    steps; otherwise one step of each goes to one update or the next. Which pairs an update sees depends neither on
    ``batch_size`` nor on how many processes share the images.

    Args:
        trajectory: Of this process.
        slots: From ``shuffled_slots``, ``(b, t)``.
        num_images: Of the whole iteration, over all processes.
        update: Which of the updates, from 0.
        num_updates: Into which one pass over the trajectory is divided; divides ``num_images * t``.
        batch_size: Rows of a call, as when the images were drawn.
        empty_too: Yield calls without a pair of this update as well, so that all processes make equally many.
    """
    count, steps = slots.shape
    size = num_images * steps // num_updates
    first, last = update * size, (update + 1) * size  # places in the list of all pairs, ordered by (layer, image)
    for layer in range(first // num_images, -(-last // num_images)):
        for rows, real in padded_rows(count, batch_size, slots.device):
            place = layer * num_images + trajectory.image_ids[rows]
            is_real = torch.arange(batch_size, device=slots.device) < real
            counted = (place >= first) & (place < last) & is_real
            if empty_too or counted.any():
                yield MicroBatch(rows, slots[rows, layer], counted)


def count_calls(num_images: int, own_images: int, num_slots: int, num_updates: int, batch_size: int) -> int:
    """Count the calls that ``micro_batches`` yields in one pass, for the process that has the first images."""
    size, calls = num_images * num_slots // num_updates, 0
    for update in range(num_updates):
        first, last = update * size, (update + 1) * size
        for layer in range(first // num_images, -(-last // num_images)):
            for start in range(0, own_images, batch_size):
                end = min(start + batch_size, own_images)
                calls += layer * num_images + start < last and layer * num_images + end > first
    return calls
