"""The shipped models in diffusers alone, loaded as the README says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from pamela_rl.storage import SHIPPED_PIPELINES
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.scenes import SUBJECTS


@pytest.mark.parametrize(
    ("folder", "absent", "settings"),
    [
        (SHIPPED_PIPELINES["world"], {}, {}),
        (SHIPPED_PIPELINES["flow"], {"text_encoder_3": None, "tokenizer_3": None}, {"max_sequence_length": 0}),
    ],
    ids=["world", "flow"],
)
def test_it_loads_without_a_word_on_precision_and_draws_what_was_asked(
    folder: Path, absent: dict[str, None], settings: dict[str, Any], content_judge: ContentJudge
) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folder, **absent)
    pipeline.set_progress_bar_config(disable=True)
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert {weight.dtype for part in parts for weight in part.parameters()} == {torch.float32}
    prompts = [f"a {subject}" for subject in SUBJECTS[:6]]
    generators = [torch.Generator().manual_seed(seed) for seed in range(6)]
    drawn = pipeline(
        prompts, num_inference_steps=8, guidance_scale=1.0, output_type="pt", generator=generators, **settings
    ).images
    seen = content_judge.classify(drawn.float())["subject"]
    assert sum(a == b for a, b in zip(seen, SUBJECTS, strict=False)) >= 4
