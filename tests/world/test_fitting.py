from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from pamela_rl.world.fitting import fit
from pamela_rl.world.settings import FitSettings

SETTINGS = FitSettings(num_steps=120, learning_rate=0.05, warmup_steps=10, ema_decay=0.9, checkpoint_every=40)
TRUTH = torch.tensor([[1.0], [-2.0], [0.5]])


def train(folder: Path, settings: FitSettings = SETTINGS, stop_at: int | None = None) -> nn.Linear:
    torch.manual_seed(4)
    model = nn.Linear(3, 1)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        inputs = torch.randn(32, 3, generator=generator)
        return mse_loss(model(inputs), inputs @ TRUTH)

    fit("toy", [model], loss, settings, folder)
    return model


def test_it_learns_a_line_and_logs_its_loss(tmp_path: Path) -> None:
    model = train(tmp_path)
    assert not model.training
    torch.testing.assert_close(model.weight.T, TRUTH, atol=0.05, rtol=0)
    rows = [json.loads(line) for line in (tmp_path / "toy.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 100]
    assert rows[1]["loss"] < rows[0]["loss"]


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = train(tmp_path / "intact")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", stop_at=95)
    resumed = train(tmp_path / "parts")
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_a_finished_run_started_again_trains_no_more(tmp_path: Path) -> None:
    whole = train(tmp_path)
    again = train(tmp_path, stop_at=0)
    assert torch.equal(whole.weight, again.weight)


def test_the_weights_kept_are_averages_and_not_the_last(tmp_path: Path) -> None:
    kept = train(tmp_path / "a")
    last = train(tmp_path / "b", replace(SETTINGS, ema_decay=0.0))
    assert not torch.equal(kept.weight, last.weight)
