"""The world's flow-matching twin, as it is shipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline

from pamela_rl.config import SamplingConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import SHIPPED_PIPELINES
from pamela_rl.world.image_quality import attribute_accuracy, sample_subjects
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.scenes import SUBJECTS


@pytest.fixture(scope="module")
def flow() -> Any:
    return load_pipeline("flow")


def test_it_is_an_ordinary_pipeline_that_weighs_little(flow: Any) -> None:
    assert type(flow) is StableDiffusion3Pipeline
    assert sum(file.stat().st_size for file in SHIPPED_PIPELINES["flow"].rglob("*") if file.is_file()) < 16e6
    assert not list(SHIPPED_PIPELINES["flow"].rglob("*.bin"))
    first, own = load_pipeline("world").vae.state_dict(), flow.vae.state_dict()
    assert all(torch.equal(first[name], own[name]) for name in first)  # the same autoencoder


@pytest.mark.slow
def test_most_of_its_pictures_show_the_subject_they_were_asked_for(flow: Any, content_judge: ContentJudge) -> None:
    seen = content_judge.classify(sample_subjects(flow, 48))["subject"]
    assert sum(a == SUBJECTS[row % len(SUBJECTS)] for row, a in enumerate(seen)) >= 40


@pytest.mark.slow
def test_it_knows_left_from_right(flow: Any, content_judge: ContentJudge) -> None:
    assert attribute_accuracy(flow, content_judge, "placement", count=24) > 0.7  # a third by chance


def test_without_noise_a_rollout_is_the_pipelines_own_picture(flow: Any) -> None:
    policy = policy_for(flow)
    start = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in (7, 8)])
    policy.initial_latents = lambda generators: start  # type: ignore[method-assign]
    batch = PromptSource(["a boat"], "ada").draw(0, 1, 2, 0)
    ours = rollout(policy, batch, SamplingConfig(6, eta=0.0, train_steps=1), 0, 0, 2).images
    conditioning = policy.encode(["a boat"]).tensors["prompt_embeds"]
    assert conditioning.shape[1] == 32  # CLIP's tokens, and none in T5's place
    stock = flow(
        ["a boat"] * 2, num_inference_steps=6, guidance_scale=1.0, max_sequence_length=0, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in (7, 8)],
    ).images  # fmt: skip
    torch.testing.assert_close(ours, stock, atol=5e-6, rtol=0)
    torch.testing.assert_close(PipelineGenerator(flow, None, 6)(["a boat"] * 2, [7, 8]), stock, atol=5e-6, rtol=0)


def test_a_call_that_knows_nothing_of_this_draws_the_same_things(flow: Any, content_judge: ContentJudge) -> None:
    pipeline = DiffusionPipeline.from_pretrained(SHIPPED_PIPELINES["flow"], text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    prompts = [f"a {subject}" for subject in SUBJECTS[:6]]
    generators = [torch.Generator().manual_seed(seed) for seed in range(6)]
    drawn = pipeline(prompts, num_inference_steps=8, guidance_scale=1.0, output_type="pt", generator=generators).images
    seen = content_judge.classify(drawn.float())["subject"]
    assert sum(a == b for a, b in zip(seen, SUBJECTS, strict=False)) >= 4
