from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pamela_rl.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)


class Counting(torch.optim.AdamW):
    """Keeps its steps as plain integers, and nests tensors in its state_dict, as bitsandbytes does."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        for entry in self.state.values():
            entry["seen"] = entry.get("seen", 0) + 1

    def state_dict(self) -> dict[str, Any]:
        found = super().state_dict()
        nested = {index: {"seen": entry["seen"], "more": entry} for index, entry in found["state"].items()}
        return found | {"state": nested}


def test_an_optimizer_comes_back_as_it_was_plain_numbers_included(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3))
    optimizer = Counting([weight], lr=0.1)
    for _ in range(2):
        weight.grad = torch.randn(3)
        optimizer.step()
    save_checkpoint(
        tmp_path / "checkpoint", Checkpoint(2, {"w": weight.detach()}, optimizer_tensors(optimizer), {}, {"n": 1}, {})
    )
    saved = load_checkpoint(tmp_path / "checkpoint")
    assert saved is not None
    other = torch.nn.Parameter(saved.adapter["w"].clone())
    fresh = Counting([other], lr=0.1)
    restore_optimizer(fresh, saved.optimizer)
    assert fresh.state[other]["seen"] == 2
    assert isinstance(fresh.state[other]["seen"], int)
    gradient = torch.randn(3)
    for parameter, steps in ((weight, optimizer), (other, fresh)):
        parameter.grad = gradient.clone()
        steps.step()
    assert torch.equal(weight, other)
