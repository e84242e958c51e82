from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from train_world import ship

from pamela_rl.world import load_pipeline


def test_what_is_shipped_in_half_precision_is_loaded_in_full(tmp_path: Path) -> None:
    ship(load_pipeline(), tmp_path)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path)
    assert (pipeline.text_encoder.dtype, pipeline.unet.dtype) == (torch.float32, torch.float32)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) < 16e6
