from __future__ import annotations

import pytest
import torch

from pamela_rl.algorithms.gradients import sum_dtype
from pamela_rl.algorithms.minibatches import micro_batches, shuffled_slots


def pairs_of(image_ids: list[int], num_images: int, num_updates: int, batch_size: int) -> list[set[tuple[int, int]]]:
    """The (image id, slot) pairs of each update."""
    ids = torch.tensor(image_ids)
    slots = shuffled_slots(ids, 6, 3, 1, 0)
    updates = []
    for update in range(num_updates):
        pairs = []
        for batch in micro_batches(ids, slots, num_images, update, num_updates, batch_size, ids.device):
            assert len(batch.image) == batch_size
            rows = batch.image[batch.mask]
            assert torch.equal(rows % batch_size, torch.nonzero(batch.mask).flatten())  # its row in the rollout
            pairs += list(zip(ids[rows].tolist(), batch.slot[batch.mask].tolist(), strict=True))
        assert len(pairs) == len(set(pairs))
        updates.append(set(pairs))
    return updates


@pytest.mark.parametrize("num_updates", [1, 2, 3, 4, 6, 8])
def test_every_pair_is_in_exactly_one_update_and_all_updates_are_as_large(num_updates: int) -> None:
    updates = pairs_of(list(range(12)), 12, num_updates, 12)
    assert {len(update) for update in updates} == {72 // num_updates}
    assert set.union(*updates) == {(image, slot) for image in range(12) for slot in range(6)}


@pytest.mark.parametrize("batch_size", [1, 5, 12, 40])
@pytest.mark.parametrize("num_updates", [2, 4])
def test_an_update_sees_the_same_pairs_at_any_cut_and_any_share_of_processes(batch_size: int, num_updates: int) -> None:
    whole = pairs_of(list(range(12)), 12, num_updates, 12)
    assert pairs_of(list(range(12)), 12, num_updates, batch_size) == whole
    first, second = (pairs_of(ids, 12, num_updates, batch_size) for ids in (list(range(6)), list(range(6, 12))))
    assert [a | b for a, b in zip(first, second, strict=True)] == whole


def test_steps_are_shuffled_anew_for_every_key_and_image() -> None:
    ids = torch.arange(8)
    slots = shuffled_slots(ids, 12, 0, 0, 0)
    assert torch.equal(slots, shuffled_slots(ids, 12, 0, 0, 0))
    assert not torch.equal(slots, shuffled_slots(ids, 12, 0, 1, 0))
    assert len({tuple(row) for row in slots.tolist()}) == 8
    assert torch.equal(slots.sort(dim=1).values, torch.arange(12).repeat(8, 1))


def test_sums_are_taken_in_what_the_device_has() -> None:
    assert sum_dtype(torch.device("mps")) == torch.float32
    assert sum_dtype(torch.device("cpu")) == sum_dtype(torch.device("cuda")) == torch.float64
