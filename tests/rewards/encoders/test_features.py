from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder, Precision, encode_all
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.world.encoder import tone_words
from pamela_rl.world.ratings import WorldRatings
from pamela_rl.world.scenes import SUBJECTS


def smooth_picture(width: int, height: int) -> Image.Image:
    """A photograph-like picture: large shapes, some of them sharp."""
    coarse = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (512, 512), (48, 48), (64, 90), (300, 200), (40, 130)])
def test_pictures_as_tensors_give_open_clips_own_features_of_the_same_pictures_as_files(
    encoder: FeatureEncoder, size: tuple[int, int]
) -> None:
    # where a picture is resized open_clip rounds to bytes and we do not: that is the tolerance
    image, tolerance = smooth_picture(*size), 1e-6 if min(size) == 64 else 1e-3
    transform = image_transform_v2(PreprocessCfg(**encoder.model.visual.preprocess_cfg), is_train=False)
    theirs = encoder.model.encode_image(transform(image)[None], normalize=True)
    torch.testing.assert_close(encoder.encode_images(as_tensor(image)), theirs, atol=tolerance, rtol=0)


def test_prompts_give_open_clips_own_features(encoder: FeatureEncoder) -> None:
    prompts = ["a boat, at night", "a tree", "a boat, at night"]
    tokens = open_clip.get_tokenizer(f"local-dir:{WORLD_ENCODER}")(prompts)
    theirs = encoder.model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(encoder.encode_prompts(prompts), theirs, atol=1e-6, rtol=0)


def test_a_prompt_has_the_same_features_alone_later_and_among_others(encoder: FeatureEncoder) -> None:
    fresh = FeatureEncoder.load(WORLD_ENCODER)
    among = fresh.encode_prompts([f"a {subject}" for subject in SUBJECTS])
    torch.testing.assert_close(fresh.encode_prompts(["a boat"])[0], among[SUBJECTS.index("boat")])
    torch.testing.assert_close(encoder.encode_prompts(["a boat"])[0], among[SUBJECTS.index("boat")])


def test_features_are_picture_prompt_and_their_product_at_one_scale(encoder: FeatureEncoder) -> None:
    images, prompts = torch.rand(3, 3, 64, 64), ["a boat", "a tree", "a house"]
    seen, requested = encoder.encode_images(images), encoder.encode_prompts(prompts)
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(requested.norm(dim=1), torch.ones(3))
    dim = seen.shape[1]
    parts = encoder.encode(images, prompts).split(dim, dim=1)
    root = dim**0.5
    torch.testing.assert_close(parts[0], seen * root)
    torch.testing.assert_close(parts[1], requested * root)
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
    image_features, prompt_features = encoder.encode_images(images), encoder.encode_prompts(texts)
    best = [texts[int(row)] for row in (image_features @ prompt_features.T).argmax(dim=1)]
    tones = [text.split(", ")[1].split(" ") for text in best]
    exact = [tone.split(" ") for tone in tone_words(images)]
    lightness = sum(a[-1] == b[-1] for a, b in zip(tones, exact)) / 200
    support = sum(text.split(", ")[0].removeprefix("a ") in prompt for text, prompt in zip(best, world_ratings.prompts))
    assert lightness > 0.85
    assert support / 200 > 0.8  # 6 % show another subject than was asked, 8 % are spoilt


def test_a_picture_is_nearer_to_a_softened_self_than_to_another(
    encoder: FeatureEncoder, world_ratings: WorldRatings
) -> None:
    images = world_ratings.images[:50]
    softened = (images + 0.02 * torch.randn_like(images)).clamp(0, 1)
    features = encoder.encode_images(images)
    own = cosine_similarity(features, encoder.encode_images(softened))
    other = cosine_similarity(features, features.roll(1, dims=0))
    assert (own > other).float().mean() > 0.9


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 5e-3), ("fp16", 1e-3)])
def test_half_precision_gives_nearly_the_same_features_and_in_full(
    encoder: FeatureEncoder, world_ratings: WorldRatings, precision: Precision, tolerance: float
) -> None:
    half = FeatureEncoder.load(WORLD_ENCODER, precision=precision)
    images, prompts = world_ratings.images[:20], world_ratings.prompts[:20]
    for mine, full in (
        (half.encode_images(images), encoder.encode_images(images)),
        (half.encode_prompts(prompts), encoder.encode_prompts(prompts)),
    ):
        assert mine.dtype == torch.float32
        assert not torch.equal(mine, full)
        torch.testing.assert_close(mine, full, atol=tolerance, rtol=0)
    assert half.precision == precision
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}


def test_full_precision_stays_full_whatever_the_caller_computes_in(encoder: FeatureEncoder) -> None:
    images = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encoder.encode_images(images)
    assert torch.equal(inside, encoder.encode_images(images))


def test_auto_means_half_only_on_a_cuda_device_that_has_bf16(
    encoder: FeatureEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encoder.precision == "fp32"
    monkeypatch.setattr(FeatureEncoder, "device", torch.device("cuda"))
    for has, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert encoder.precision == precision


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is 'half'; choose one of auto, fp32, bf16, fp16"):
        FeatureEncoder.load(WORLD_ENCODER, precision="half")  # type: ignore[arg-type]
