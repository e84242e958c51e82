"""How the (image, step) pairs of a trajectory are divided over updates and denoiser calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.diffusion.batching import padded_rows
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.transfers import to_device


@dataclass(frozen=True)
class MicroBatch:
    """The pairs of one denoiser call: each image in the row it had in the rollout, at one of its trained steps.

    Rows that are not in the mask are computed and count nothing: to leave them out, the CPU would have to wait for the card.

    Attributes:
        image: Row of each image in the trajectory, ``(batch_size,)``.
        slot: Which of its trained steps, ``(batch_size,)``.
        mask: False for rows that only pad the call, ``(batch_size,)``.
        image_rows: ``image``, as the CPU knows it.
    """

    image: Tensor
    slot: Tensor
    mask: Tensor
    image_rows: tuple[int, ...]


def shuffled_slots(image_ids: Tensor, count: int, *key: int) -> Tensor:
    """Order the trained steps of each image, ``count`` of them, from ``key`` and its image id alone, on the CPU, ``(b, t)``."""
    orders = [torch.randperm(count, generator=generator_for(*key, i)) for i in image_ids.tolist()]
    return torch.stack(orders)


def micro_batches(
    image_ids: Tensor,
    slots: Tensor,
    num_images: int,
    update: int,
    num_updates: int,
    batch_size: int,
    device: torch.device,
    include_empty: bool = False,
) -> Iterator[MicroBatch]:
    """Divide one update's pairs into calls of ``batch_size``.

    All images of the iteration take part in every update where the number of updates divides the number of trained
    steps; otherwise one step of each goes to one update or the next. Which pairs an update sees depends neither on
    ``batch_size`` nor on how many processes share the images.

    Args:
        image_ids: Of this process's images, on the CPU, ``(b,)``.
        slots: From ``shuffled_slots``, ``(b, t)``.
        num_images: Of the whole iteration, over all processes.
        update: Which of the updates, from 0.
        num_updates: Into which one pass over the trajectory is divided; divides ``num_images * t``.
        batch_size: Rows of a call.
        device: Where the calls are made.
        include_empty: Yield calls without a pair of this update as well, so that all processes make equally many.
    """
    count, steps = slots.shape
    size = num_images * steps // num_updates
    first, last = update * size, (update + 1) * size  # places in the list of all pairs, ordered by (layer, image)
    for layer in range(first // num_images, -(-last // num_images)):
        for rows, real in padded_rows(count, batch_size, torch.device("cpu")):
            place = layer * num_images + image_ids[rows]
            is_real = torch.arange(batch_size) < real
            mask = (place >= first) & (place < last) & is_real
            if include_empty or mask.any():
                image, slot, used = to_device(torch.stack([rows, slots[rows, layer], mask.long()]), device)
                yield MicroBatch(image, slot, used.bool(), tuple(rows.tolist()))
