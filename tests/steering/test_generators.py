from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapters import add_adapter, load_adapter, save_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.errors import ConfigError
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import SHIPPED_PIPELINES

PROMPTS, SEEDS = ["a boat", "a tree", "a house"], [1, 2, 3]


@pytest.fixture(scope="module")
def world() -> Any:
    return load_pipeline("world")


def test_pictures_are_the_pipelines_own(world: Any) -> None:
    drawn = PipelineGenerator(world, num_inference_steps=3)(PROMPTS, SEEDS)
    own = world(
        PROMPTS,
        num_inference_steps=3,
        guidance_scale=1.0,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="pt",
    ).images
    assert torch.equal(drawn, own)
    assert drawn.shape == (3, 3, 64, 64)


def test_a_picture_depends_on_its_prompt_and_seed_alone(world: Any) -> None:
    one = PipelineGenerator(world, num_inference_steps=3, batch_size=2)(PROMPTS, SEEDS)
    other = PipelineGenerator(world, num_inference_steps=3)(PROMPTS[::-1], SEEDS[::-1]).flip(0)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_any_pipeline_on_disk_is_loaded_by_its_folder_and_the_callers_prompts_stay_as_they_are(world: Any) -> None:
    prompts = list(PROMPTS)
    loaded = PipelineGenerator(load_pipeline(str(SHIPPED_PIPELINES["world"])), num_inference_steps=3)(prompts, SEEDS)
    torch.testing.assert_close(loaded, PipelineGenerator(world, num_inference_steps=3)(PROMPTS, SEEDS))
    assert prompts == PROMPTS


def test_a_pipeline_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no diffusers pipeline can be loaded from .*give a hub id or a folder"):
        load_pipeline(str(tmp_path))


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_adapters_are_switched_on_and_off_for_each_arm(tmp_path: Path) -> None:
    policy = policy_for(load_pipeline("world"))
    base = PipelineGenerator(policy.pipeline, None, 3)(PROMPTS, SEEDS)
    for seed, name in enumerate(("ada", "ben")):
        (weights,) = add_adapter(policy, name, LoraSettings(rank=2, alpha=2), seed)
        weights.data += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed))
        save_adapter(policy, name, name, tmp_path, {}, {})
    drawn = {}
    for name in ("ada", "ben"):
        load_adapter(policy.pipeline, tmp_path, name)
        drawn[name] = PipelineGenerator(policy.pipeline, name, 3)(PROMPTS, SEEDS)
    assert (drawn["ada"] - drawn["ben"]).abs().mean() > 0.01
    assert torch.equal(PipelineGenerator(policy.pipeline, None, 3)(PROMPTS, SEEDS), base)
    assert torch.equal(PipelineGenerator(policy.pipeline, "ada", 3)(PROMPTS, SEEDS), drawn["ada"])


def _sdxl() -> Any:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    text = CLIPTextConfig(
        vocab_size=1100, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=32, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    tokenizer = load_pipeline("world").tokenizer
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8, cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
        transformer_layers_per_block=1, projection_class_embeddings_input_dim=80, use_linear_projection=True,
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4)  # fmt: skip
    return StableDiffusionXLPipeline(
        vae, CLIPTextModel(text), CLIPTextModelWithProjection(text), tokenizer, tokenizer, unet,
        EulerDiscreteScheduler(), add_watermarker=False,
    )  # fmt: skip


@pytest.mark.parametrize("make", [_sdxl])
def test_families_without_a_policy_draw_too(make: Callable[[], Any]) -> None:
    pipeline = make()
    pipeline.set_progress_bar_config(disable=True)
    drawn = PipelineGenerator(pipeline, num_inference_steps=2)(PROMPTS, SEEDS)
    assert drawn.shape[:2] == (3, 3)
    assert drawn.isfinite().all()
    assert (drawn[0] - drawn[1]).abs().max() > 0
