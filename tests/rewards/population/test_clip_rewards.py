"""CLIP score, PickScore and the aesthetic predictor against transformers' own CLIP."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from published_files import PROMPTS, as_tensor, image, random_head, write_safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.population import load_population_reward
from pamela_rl.rewards.population.clip_encoder import ClipEncoder

PEOPLE = ["ada"] * 3


def transformers_answer(folder: Path, rgb_images: list[Image.Image]) -> Any:
    """Pictures and prompts through CLIPModel's own forward."""
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokens = CLIPTokenizer.from_pretrained(folder)(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return CLIPModel.from_pretrained(folder)(**tokens, **processor(rgb_images, return_tensors="pt"))


def test_clip_score_is_a_hundred_times_the_cosine_and_keeps_its_sign(
    saved: dict[str, Path], rgb_images: list[Image.Image], images: Tensor
) -> None:
    answer = transformers_answer(saved["clip_score"], rgb_images)
    cosine = torch.cosine_similarity(answer.image_embeds, answer.text_embeds)
    scores = load_population_reward("clip_score", saved["clip_score"])(images, PROMPTS, PEOPLE).mean
    torch.testing.assert_close(scores, 100 * cosine, atol=1e-4, rtol=0)
    assert scores.min() < 0 < scores.max()


def test_pickscore_is_the_models_own_logit(
    saved: dict[str, Path], rgb_images: list[Image.Image], images: Tensor
) -> None:
    logits = transformers_answer(saved["pickscore"], rgb_images).logits_per_image.diagonal()
    scores = load_population_reward("pickscore", saved["pickscore"])(images, PROMPTS, PEOPLE).mean
    torch.testing.assert_close(scores, logits, atol=1e-4, rtol=0)
    place = str(saved["pickscore"])
    encoder = ClipEncoder.load(place, place, torch.device("cpu"), torch.bfloat16)
    assert encoder.logit_scale == pytest.approx(math.exp(4.6), rel=1e-6)  # not rounded with the rest


def test_pictures_of_another_size_score_as_their_files_do(saved: dict[str, Path]) -> None:
    rgb_images = [image(64, 70, seed) for seed in range(3)]
    logits = transformers_answer(saved["pickscore"], rgb_images).logits_per_image.diagonal()
    scores = load_population_reward("pickscore", saved["pickscore"])(as_tensor(rgb_images), PROMPTS, PEOPLE).mean
    torch.testing.assert_close(scores, logits, atol=0.5, rtol=0)  # of 100; rounding to bytes
    assert (logits[:, None] - logits).abs().max() > 2


def test_the_aesthetic_head_sees_unit_length_features_without_dropout_or_activations(
    saved: dict[str, Path], rgb_images: list[Image.Image], images: Tensor
) -> None:
    folder = saved["aesthetic"]
    x = transformers_answer(folder, rgb_images).image_embeds
    state = torch.load(folder / "sac+logos+ava1-l14-linearMSE.pth", weights_only=True)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(3))
    for i in (0, 2, 4, 6, 7):
        x = x @ state[f"layers.{i}.weight"].T + state[f"layers.{i}.bias"]
    scores = load_population_reward("aesthetic", folder)(images, PROMPTS, PEOPLE).mean
    torch.testing.assert_close(scores, x[:, 0], atol=1e-4, rtol=1e-5)


def test_a_head_as_safetensors_is_preferred_and_scores_the_same(
    saved: dict[str, Path], images: Tensor, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved["aesthetic"], tmp_path / "copy")
    state = torch.load(folder / "sac+logos+ava1-l14-linearMSE.pth", weights_only=True)
    before = load_population_reward("aesthetic", folder)(images, PROMPTS, PEOPLE).mean
    write_safetensors(folder, "sac+logos+ava1-l14-linearMSE.safetensors", state)
    (folder / "sac+logos+ava1-l14-linearMSE.pth").write_bytes(b"")
    after = load_population_reward("aesthetic", folder)(images, PROMPTS, PEOPLE).mean
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_a_head_for_another_clip_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["clip_score"], tmp_path / "copy")
    write_safetensors(folder, "aesthetic-model.safetensors", random_head(768))
    with pytest.raises(ConfigError, match=r"0.weight is \(1024, 768\), not \(1024, 24\).*authors publish"):
        load_population_reward("aesthetic", folder)


@pytest.mark.parametrize("name", ["clip_score", "pickscore"])
def test_a_folder_without_its_tokenizer_is_refused(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(saved[name], tmp_path / "copy", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ConfigError, match="knows 2 tokens but the model 54; its files"):
        load_population_reward(name, folder)


def test_a_model_with_a_gap_is_refused_not_filled_with_random_numbers(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["pickscore"], tmp_path / "copy")
    state = load_file(folder / "model.safetensors")
    state.pop("visual_projection.weight")
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 weights of a CLIPModel, among them visual_projection.weight"):
        load_population_reward("pickscore", folder)


def test_a_prompt_that_is_too_long_is_cut_off(saved: dict[str, Path], images: Tensor) -> None:
    reward = load_population_reward("pickscore", saved["pickscore"])
    long = "a tree and " * 40
    scores = reward(images[:1].expand(2, -1, -1, -1), [long, long + "a boat"], ["ada"] * 2).mean
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0)
