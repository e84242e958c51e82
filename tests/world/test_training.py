from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.errors import ConfigError
from pamela_rl.world.settings import WorldSettings
from pamela_rl.world.training import ship


def test_what_is_shipped_in_half_precision_is_loaded_in_full(tmp_path: Path) -> None:
    ship(load_pipeline("world"), tmp_path)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path)
    assert (pipeline.text_encoder.dtype, pipeline.unet.dtype) == (torch.float32, torch.float32)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) < 16e6


def test_a_few_drawings_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_scenes is 100; use at least 1000 drawings"):
        WorldSettings(num_scenes=100)
