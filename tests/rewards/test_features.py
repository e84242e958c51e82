from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.features import FeatureEncoder, encode_all
from pamela_rl.world import ENCODER
from pamela_rl.world.encoder import tone_words
from pamela_rl.world.ratings import WorldRatings
from pamela_rl.world.scenes import SUBJECTS


def smooth_picture(size: int) -> Image.Image:
    """A photograph-like picture: large shapes, some of them sharp."""
    coarse = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def as_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(("size", "tolerance"), [(64, 1e-6), (128, 1e-3), (512, 1e-3), (48, 1e-3)])
def test_pictures_as_tensors_give_open_clips_own_features_of_the_same_pictures_as_files(
    encoder: FeatureEncoder, size: int, tolerance: float
) -> None:
    # beyond the model's own size open_clip's resize rounds to bytes and ours does not: that is the tolerance
    picture = smooth_picture(size)
    transform = image_transform_v2(PreprocessCfg(**encoder.model.visual.preprocess_cfg), is_train=False)
    theirs = encoder.model.encode_image(transform(picture)[None], normalize=True)
    torch.testing.assert_close(encoder.encode_images(as_tensor(picture)), theirs, atol=tolerance, rtol=0)


def test_prompts_give_open_clips_own_features(encoder: FeatureEncoder) -> None:
    prompts = ["a boat, at night", "a tree", "a boat, at night"]
    tokens = open_clip.get_tokenizer(f"local-dir:{ENCODER}")(prompts)
    theirs = encoder.model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(encoder.encode_prompts(prompts), theirs, atol=1e-6, rtol=0)


def test_a_prompt_has_the_same_features_alone_later_and_among_others(encoder: FeatureEncoder) -> None:
    fresh = FeatureEncoder.load(ENCODER)
    among = fresh.encode_prompts([f"a {subject}" for subject in SUBJECTS])
    torch.testing.assert_close(fresh.encode_prompts(["a boat"])[0], among[SUBJECTS.index("boat")])
    torch.testing.assert_close(encoder.encode_prompts(["a boat"])[0], among[SUBJECTS.index("boat")])


def test_features_are_picture_prompt_and_their_product_at_one_scale(encoder: FeatureEncoder) -> None:
    images, prompts = torch.rand(3, 3, 64, 64), ["a boat", "a tree", "a house"]
    seen, asked = encoder.encode_images(images), encoder.encode_prompts(prompts)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(asked.norm(dim=1), torch.ones(3))
    dim = seen.shape[1]
    parts = encoder.encode(images, prompts).split(dim, dim=1)
    root = dim**0.5
    torch.testing.assert_close(parts[0], seen * root)
    torch.testing.assert_close(parts[1], asked * root)
    torch.testing.assert_close(parts[2], parts[0] * parts[1])


def test_encoding_in_batches_is_encoding_at_once(encoder: FeatureEncoder) -> None:
    images, prompts = torch.rand(7, 3, 64, 64), [f"a {subject}" for subject in SUBJECTS[:7]]
    whole = encoder.encode(images, prompts)
    torch.testing.assert_close(encode_all(encoder, images, prompts, batch_size=3), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [64, 100])
def test_gradients_reach_the_pixels_and_the_encoder_stays_frozen(encoder: FeatureEncoder, size: int) -> None:
    images = torch.rand(2, 3, size, size, requires_grad=True)
    encoder.encode(images, ["a boat", "a tree"]).square().sum(dim=1).sqrt().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad.flatten(1).abs().amax(dim=1) > 0).all()
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_the_worlds_encoder_sees_how_light_and_warm_a_picture_is_and_what_it_shows(
    encoder: FeatureEncoder, world_ratings: WorldRatings
) -> None:
    images = world_ratings.images[:200]
    texts = [f"a {subject}, {tone}" for subject in SUBJECTS for tone in sorted(set(tone_words(images)))]
    seen, said = encoder.encode_images(images), encoder.encode_prompts(texts)
    best = [texts[int(row)] for row in (seen @ said.T).argmax(dim=1)]
    tones = [text.split(", ")[1].split(" ") for text in best]
    exact = [tone.split(" ") for tone in tone_words(images)]
    lightness = sum(a[-1] == b[-1] for a, b in zip(tones, exact)) / 200
    shown = sum(text.split(", ")[0].removeprefix("a ") in prompt for text, prompt in zip(best, world_ratings.prompts))
    assert lightness > 0.85
    assert shown / 200 > 0.8  # 6 % show another subject than was asked, 8 % are spoilt


def test_a_picture_is_nearer_to_a_softened_self_than_to_another(
    encoder: FeatureEncoder, world_ratings: WorldRatings
) -> None:
    images = world_ratings.images[:50]
    softened = (images + 0.02 * torch.randn_like(images)).clamp(0, 1)
    features = encoder.encode_images(images)
    own = cosine_similarity(features, encoder.encode_images(softened))
    other = cosine_similarity(features, features.roll(1, dims=0))
    assert (own > other).float().mean() > 0.9


def test_the_fingerprint_follows_the_files(encoder: FeatureEncoder, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(ENCODER, copy)
    assert FeatureEncoder.load(copy).fingerprint == encoder.fingerprint
    config = copy / "open_clip_config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert FeatureEncoder.load(copy).fingerprint != encoder.fingerprint


@pytest.mark.parametrize("name", ["no-such-model", "ViT-B-32", "empty", "without-weights"])
def test_an_encoder_whose_weights_cannot_be_had_is_refused_and_never_made_up(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(ENCODER, tmp_path / "without-weights", ignore=shutil.ignore_patterns("*.safetensors"))
    given = tmp_path / name if (tmp_path / name).is_dir() else name
    with pytest.raises(ConfigError, match=rf"open_clip model '.*{name}' cannot be loaded .* give a folder that holds"):
        FeatureEncoder.load(given)
