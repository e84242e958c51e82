"""The embedded default: a small text-to-image model, people whose true taste is known, and judges of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pamela_rl.world.judge import ContentJudge

if TYPE_CHECKING:
    import torch

ASSETS = Path(__file__).parent / "assets"
PIPELINE = ASSETS / "pipeline"
FLOW_PIPELINE = ASSETS / "flow_pipeline"
PIPELINES = {"world": PIPELINE, "flow": FLOW_PIPELINE}  # by the names that recipes give them
ENCODER = ASSETS / "open_clip"
JUDGE = ASSETS / "judge.safetensors"


def load_pipeline(folder: str | Path = PIPELINE, dtype: torch.dtype | None = None) -> Any:
    """Load one of the world's pipelines in fp32 unless told otherwise, with no progress bars.

    Args:
        folder: ``PIPELINE``, a ``StableDiffusionPipeline``, or ``FLOW_PIPELINE``, its twin, a ``StableDiffusion3Pipeline``.
        dtype: Of its weights.
    """
    import torch
    from diffusers import DiffusionPipeline

    index = json.loads((Path(folder) / "model_index.json").read_text(encoding="utf-8"))
    # diffusers wants to be told that the twin's T5 is left out, though the folder says so
    absent = {part: None for part in ("text_encoder_3", "tokenizer_3") if index.get(part) == [None, None]}
    with _no_loading_bars():
        pipeline = DiffusionPipeline.from_pretrained(str(folder), dtype=dtype or torch.float32, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def _no_loading_bars() -> Iterator[None]:
    """Hide the bars of loaders: the world loads in a fraction of a second."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    shown = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


def load_judge() -> ContentJudge:
    """Load the judge of content."""
    return ContentJudge.load(JUDGE)
