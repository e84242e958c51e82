"""What pipelines do to finished images is off wherever images are judged, and counted."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tiny_pipelines import stable_diffusion, stable_diffusion_xl
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor

from pamela_rl.diffusion.content_filters import SafetyFlags, unfiltered
from pamela_rl.evaluation.compare import Arm, compare_user, summarize
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.evaluation.verdict import flagged_note
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.types import RewardOutput

PROMPTS, SEEDS = ["a boat", "a tree", "a house", "a cup"], [1, 2, 3, 4]


def checked_pipeline() -> Any:
    """A small random pipeline whose random safety checker flags about half of what it draws."""
    torch.manual_seed(0)
    pipeline = stable_diffusion()
    pipeline.set_progress_bar_config(disable=True)
    part = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config={**part, "image_size": 16, "patch_size": 8}, text_config=part, projection_dim=8)
    pipeline.register_modules(
        safety_checker=StableDiffusionSafetyChecker(config).eval(),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )
    return pipeline


def drawn_by_itself(pipeline: Any) -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    return pipeline(
        PROMPTS, num_inference_steps=2, guidance_scale=1.0, height=16, width=16, generator=generators, output_type="pt"
    )


@pytest.fixture
def pipeline() -> Any:
    pipeline = checked_pipeline()
    checker = pipeline.safety_checker
    with unfiltered(pipeline):
        images = drawn_by_itself(pipeline).images
    similar: list[Tensor] = []
    checker.concept_embeds.data.normal_()
    checker.visual_projection.register_forward_hook(lambda module, inputs, output: similar.append(output))
    pipeline.run_safety_checker(images * 2 - 1, "cpu", torch.float32)
    own, concepts = (torch.nn.functional.normalize(part) for part in (similar[0], checker.concept_embeds))
    highest = (own @ concepts.T).max(dim=1).values.sort().values
    checker.concept_embeds_weights.data.fill_(float(highest[1] + highest[2]) / 2)
    return pipeline


def test_images_are_drawn_without_the_safety_checker_and_those_it_flags_are_told(
    pipeline: Any, caplog: pytest.LogCaptureFixture
) -> None:
    filtered = drawn_by_itself(pipeline)
    assert filtered.nsfw_content_detected.count(True) == 2
    black = [float(image.abs().max()) == 0 for image in filtered.images]
    assert black == filtered.nsfw_content_detected
    images = PipelineGenerator(pipeline, None, 2, 1.0, 4, 16, 16)(PROMPTS, SEEDS)
    assert all(float(image.max()) > 0 for image in images)
    assert torch.equal(images[~torch.tensor(black)], filtered.images[~torch.tensor(black)])
    assert pipeline.safety_checker is not None  # back where it was
    caplog.clear()
    logging.getLogger("diffusers").propagate = True
    try:
        flags = SafetyFlags.of(pipeline)["flagged"](images, PROMPTS, ["ada"] * 4)
    finally:
        logging.getLogger("diffusers").propagate = False
    assert flags.mean.bool().tolist() == black
    assert caplog.text == ""
    assert float(images.min(dim=0).values.max()) > 0  # the images that were asked about are not blackened


def test_a_pipeline_without_a_safety_checker_flags_nothing() -> None:
    assert SafetyFlags.of(stable_diffusion()) == {}


def test_the_report_counts_what_the_safety_checker_flags(pipeline: Any, tmp_path: Path) -> None:
    def brightness(images: Tensor, prompts: Any, user_ids: Any) -> RewardOutput:
        return RewardOutput(images.mean(dim=(1, 2, 3)))

    draw = PipelineGenerator(pipeline, None, 2, 1.0, 4, 16, 16)
    arms = [Arm(name, lambda prompts, seeds: draw(PROMPTS, SEEDS)) for name in ("base", "own")]
    compared = compare_user("ada", arms, PROMPTS, 1, {"reward": brightness, **SafetyFlags.of(pipeline)})
    summary = summarize([compared])
    assert summary["overall"]["base"]["images_flagged"] == [2, 4]
    told = "Images it flags: Base model 2 of 4, Own adapter 2 of 4."
    assert told in str(flagged_note(summary))
    write_report(tmp_path, Report(summary, [compared]))
    assert told in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "comparison.json").read_text())["overall"]["own"]["images_flagged"] == [2, 4]


class Darkener:
    """Stands in for the invisible watermark, whose package is not installed."""

    def apply_watermark(self, images: Tensor) -> Tensor:
        return images - 0.1


def test_images_are_drawn_without_a_watermark() -> None:
    torch.manual_seed(0)
    pipeline = stable_diffusion_xl()
    pipeline.set_progress_bar_config(disable=True)
    draw = PipelineGenerator(pipeline, None, 2, 1.0, 4, 16, 16)
    plain = draw(PROMPTS, SEEDS)
    pipeline.watermark = Darkener()
    assert not torch.allclose(drawn_by_itself(pipeline).images, plain, atol=0.02)
    assert torch.equal(draw(PROMPTS, SEEDS), plain)
    assert isinstance(pipeline.watermark, Darkener)
