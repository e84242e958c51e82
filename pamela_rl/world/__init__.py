"""The embedded default: a small text-to-image model, people whose true taste is known, and judges of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pamela_rl.world.judge import ContentJudge

ASSETS = Path(__file__).parent / "assets"
PIPELINE = ASSETS / "pipeline"
ENCODER = ASSETS / "open_clip"
JUDGE = ASSETS / "judge.safetensors"


def load_pipeline(folder: str | Path = PIPELINE) -> Any:
    """Load the world's ``StableDiffusionPipeline`` in fp32, with no progress bar of its own."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_judge() -> ContentJudge:
    """Load the judge of content."""
    return ContentJudge.load(JUDGE)
