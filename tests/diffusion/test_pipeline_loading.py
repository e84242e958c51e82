"""Pipelines by shipped name, folder and hub id."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.utils import logging

from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.errors import ConfigError
from pamela_rl.storage import SHIPPED_PIPELINES


@pytest.mark.parametrize("name", SHIPPED_PIPELINES)
def test_a_shipped_name_and_its_folder_load_the_same_weights_in_fp32(name: str) -> None:
    by_name, by_folder = load_pipeline(name), load_pipeline(SHIPPED_PIPELINES[name])
    for component, module in by_name.components.items():
        if isinstance(module, torch.nn.Module):
            other = getattr(by_folder, component).state_dict()
            assert all(torch.equal(weight, other[key]) for key, weight in module.state_dict().items())
            assert {weight.dtype for weight in module.parameters()} == {torch.float32}


def test_a_half_precision_base_is_loaded_as_such() -> None:
    assert load_pipeline("world", dtype=torch.bfloat16).unet.dtype == torch.bfloat16


def test_loading_prints_nothing_and_leaves_progress_bars_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    enabled = logging.is_progress_bar_enabled()
    load_pipeline("flow")
    assert logging.is_progress_bar_enabled() == enabled
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("index", ["{", '{"_class_name": "NoPipeline"}'])
def test_a_folder_that_holds_no_pipeline_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "model_index.json").write_text(index, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no diffusers pipeline can be loaded from .*give a hub id or a folder"):
        load_pipeline(tmp_path)
