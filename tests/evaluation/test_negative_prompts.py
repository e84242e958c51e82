"""A negative prompt is used wherever images are drawn, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_arms import DRAWING, USER, a_reward, a_source, drawn, new_run
from tiny_pipelines import BUILDERS, CALL_OPTIONS, flux, stable_diffusion

from pamela_rl.config import SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.families.flux2_klein import Flux2KleinPolicy
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.rated_drawing import RatedDrawing
from pamela_rl.evaluation.settings import DrawingSettings
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.types import PromptBatch

PROMPTS, SEEDS = ["a boat", "a tree"], [1, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SamplingConfig(negative_prompt="fog"),
        lambda: RatedDrawing(negative_prompt="fog"),
        lambda: DrawingSettings(negative_prompt="fog").as_trained([]),
        lambda: PipelineGenerator(stable_diffusion(), negative_prompt="fog"),
        lambda: PipelineGenerator(stable_diffusion(), guidance_scale=None, negative_prompt="fog"),
    ],
)
def test_a_negative_prompt_without_guidance_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"negative_prompt is 'fog' but .*only guidance above 1 uses it"):
        make()


def test_a_negative_prompt_that_validation_alone_would_ignore_is_refused() -> None:
    told = SamplingConfig(guidance_scale=3.0, negative_prompt="fog")
    assert TrainConfig(sampling=told).drawn.negative_prompt == "fog"
    with pytest.raises(ConfigError, match=r"validation.guidance_scale is 1, which does not use it"):
        TrainConfig(sampling=told, validation=ValidationSettings(guidance_scale=1.0))


def test_a_model_with_distilled_guidance_refuses_a_negative_prompt() -> None:
    pipeline = flux()
    sentence = r"negative_prompt is 'fog', but guidance is distilled into this FluxPipeline"
    with pytest.raises(ConfigError, match=sentence):
        policy_for(pipeline, 32, 32).encode_negative("fog", 3.5)
    with pytest.raises(ConfigError, match=sentence):
        PipelineGenerator(pipeline, guidance_scale=3.5, negative_prompt="fog")
    assert policy_for(pipeline, 32, 32).encode_negative("", 3.5) is None


def test_kleins_negative_prompt_reaches_the_pipeline_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flux2KleinPolicy, "encode_options", CALL_OPTIONS["Flux2KleinPipeline"])
    torch.manual_seed(0)
    pipeline = BUILDERS["Flux2KleinPipeline"]()
    pipeline.set_progress_bar_config(disable=True)
    policy = policy_for(pipeline, 32, 32)
    options = {"options": CALL_OPTIONS["Flux2KleinPipeline"]}
    stock = PipelineGenerator(pipeline, None, 3, 4.0, 1, 32, 32, "fog", **options)(PROMPTS, SEEDS)
    start = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in SEEDS])
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    told = SamplingConfig(num_inference_steps=3, eta=0.0, guidance_scale=4.0, negative_prompt="fog", train_steps=1)
    batch = PromptBatch(tuple(PROMPTS), ("u", "u"), torch.arange(2), torch.arange(2))
    ours = rollout(policy, batch, told, 0, 0, 1).images
    torch.testing.assert_close(ours, stock, atol=5e-6, rtol=0)
    plain = PipelineGenerator(pipeline, None, 3, 4.0, 1, 32, 32, **options)(PROMPTS, SEEDS)
    assert float((plain - stock).abs().max()) > 1e-3


@pytest.mark.parametrize("arm", ["noise_search", "prompt_search"])
def test_every_arm_of_a_comparison_is_drawn_with_what_the_adapter_was_trained_with(arm: str, tmp_path: Path) -> None:
    own, images = {"guidance_scale": "3", "negative_prompt": "a boat at night"}, []
    for facts in ({"guidance_scale": "3"}, own):
        pipeline, reward = load_pipeline("world"), a_reward()
        run = new_run(pipeline, tmp_path / str(len(facts)), 0, facts)
        images.append(drawn(a_source(pipeline, None, run, reward), tmp_path / f"out-{len(facts)}", arm))
    assert float((images[0] - images[1]).abs().max()) > 1e-3
    asked = drawn(a_source(pipeline, None, run, reward), tmp_path / "asked", arm, negative_prompt="")
    assert torch.equal(asked, images[0])


def test_adapters_that_were_trained_otherwise_than_each_other_need_a_word(tmp_path: Path) -> None:
    folders = [
        new_run(load_pipeline("world"), tmp_path / scale, 0, {"guidance_scale": scale}) / "adapters" / USER
        for scale in ("2", "3")
    ]
    with pytest.raises(
        ConfigError, match=r"trained with drawing.guidance_scale 2.0 and 3.0; give the one to draw with"
    ):
        DRAWING.as_trained(folders)
    assert DrawingSettings(guidance_scale=4.0).as_trained(folders).guidance_scale == 4.0
    drawing = RatedDrawing(adapter=folders[1])
    assert (drawing.guidance_scale, drawing.num_inference_steps, drawing.negative_prompt) == (3.0, 20, None)
