from __future__ import annotations

from typing import Any

import pytest
import torch

from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.world.image_quality import reconstruction_error, sample_images, sample_subjects
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.scenes import SUBJECTS


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_pipeline("world")


def test_prompts_are_drawn_from_seeds_0_1_2_by_the_pipelines_own_sampler(pipeline: Any) -> None:
    drawn = sample_images(pipeline, ["a boat", "a tree"], num_inference_steps=3)
    alone = pipeline(
        "a tree",
        num_inference_steps=3,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
    ).images
    torch.testing.assert_close(drawn[1:], alone, atol=2e-5, rtol=0)


def test_the_autoencoder_gives_drawings_back(pipeline: Any) -> None:
    assert reconstruction_error(pipeline.vae, count=50) < 0.06  # on [-1, 1]


def test_the_shipped_model_draws_what_it_is_asked(pipeline: Any, content_judge: ContentJudge) -> None:
    images = sample_subjects(pipeline, 32)
    seen = content_judge.classify(images)
    assert images.shape == (32, 3, 64, 64)
    assert sum(seen["subject"][row] == SUBJECTS[row % 8] for row in range(32)) >= 24
    assert seen["condition"].count("corrupted") <= 8
