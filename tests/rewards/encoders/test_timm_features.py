from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms.functional import to_tensor

from pamela_rl.data.images import FolderImages
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.feature_cache import encode_store
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.encoders.timm_features import MAX_DIM, MAX_WIDTH, TimmEncoder


@pytest.fixture(scope="module")
def lite0() -> TimmEncoder:
    opened = open_encoder("efficientnet_lite0", "cpu")
    assert isinstance(opened, TimmEncoder)
    return opened


def small_vit() -> Any:
    shape = {"img_size": 32, "embed_dim": 24, "num_heads": 2, "depth": 3, "num_classes": 0}
    return timm.create_model("vit_tiny_patch16_224", pretrained_cfg_overlay={"input_size": (3, 32, 32)}, **shape)


def blocks_of(encoder: TimmEncoder, images: Tensor) -> list[Tensor]:
    """Means and deviations of the stages, and the end, by timm's own features and pooling."""
    with torch.no_grad():
        pixels = encoder.preprocessing(images)
        stages = encoder.model.forward_intermediates(pixels, intermediates_only=True)
        end = encoder.model(pixels)
    return [part for s in stages for part in (s.mean(dim=(2, 3)), s.std(dim=(2, 3), correction=0))] + [end]


def test_features_are_means_and_deviations_of_the_stages_and_the_end_each_of_one_length(lite0: TimmEncoder) -> None:
    images = torch.rand(6, 3, 48, 64)
    features, offset, blocks = lite0.encode(images, [""] * 6), 0, blocks_of(lite0, images)
    for block in blocks:
        part = features[:, offset : offset + min(block.shape[1], MAX_WIDTH)]
        offset += part.shape[1]
        torch.testing.assert_close(part.square().sum(dim=1), torch.full((6,), 1408 / len(blocks)), atol=1e-2, rtol=0)
        similarity, theirs = (normalize(rows, dim=1) @ normalize(rows, dim=1).T for rows in (part, block))
        # the end is projected, which changes cosines by about 1 / sqrt(MAX_WIDTH)
        torch.testing.assert_close(similarity, theirs, atol=1e-4 if block.shape[1] <= MAX_WIDTH else 0.15, rtol=0)
    assert offset == features.shape[1] == 1408


@pytest.mark.parametrize("size", [(64, 64), (300, 180), (17, 40)])
def test_features_of_a_file_are_those_of_its_tensor_with_and_without_a_cache(
    size: tuple[int, int], lite0: TimmEncoder, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    store = FolderImages(tmp_path / "images")
    expected = lite0.encode(to_tensor(Image.fromarray(pixels))[None], ["a boat"])
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = encode_store(lite0, store, ["a.png"], ["another prompt"], cache)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_cache_keeps_encoders_apart(lite0: TimmEncoder, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "images" / "a.png")
    encoders = [lite0, open_encoder("efficientnet_lite2", "cpu"), open_encoder("pixels", "cpu")]
    for _ in ("computed", "from the cache"):
        found = [
            encode_store(e, FolderImages(tmp_path / "images"), ["a.png"], [""], tmp_path / "cache") for e in encoders
        ]
        assert [features.shape[1] for features in found] == [1408, 1504, 768]


def test_gradients_reach_the_pixels_and_are_right(lite0: TimmEncoder) -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 40, 40).mul(0.6).add(0.2).requires_grad_()
    direction = torch.randn(1408)
    (lite0.encode(images, [""]) @ direction).sum().backward()
    assert images.grad is not None
    step = 2e-3 * images.grad / images.grad.abs().max()
    with torch.no_grad():
        higher, lower = (lite0.encode(images + sign * step, [""]) @ direction for sign in (1, -1))
    expected = 2 * (images.grad * step).sum()
    torch.testing.assert_close((higher - lower)[0], expected, atol=0, rtol=0.1)
    assert all(parameter.grad is None for parameter in lite0.model.parameters())


def test_gradients_are_finite_where_a_channel_is_the_same_all_over_an_image() -> None:
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    torch.nn.init.zeros_(model.blocks[0][-1].bn2.weight[:1])  # the last layer of the first stage, which has no ReLU
    images = torch.rand(1, 3, 40, 40, requires_grad=True)
    TimmEncoder(model, "timm:one_dead", "one_dead").encode(images, [""]).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad != 0).any()


def test_an_image_has_the_same_features_in_any_batch_and_under_autocast(lite0: TimmEncoder) -> None:
    images = torch.rand(3, 3, 64, 64)
    together = lite0.encode(images, [""] * 3)
    alone = torch.cat([lite0.encode(image[None], [""]) for image in images])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lite0.encode(images, [""] * 3), together)


def test_stages_that_make_features_too_wide_are_left_out_widest_first() -> None:
    small = {"input_size": (3, 64, 64)}
    model = timm.create_model("resnetv2_50", num_classes=0, pretrained_cfg_overlay=small)  # stages of 64 to 2,048
    encoder = TimmEncoder(model, "timm:resnetv2_50", "wide")
    features = encoder.encode(torch.rand(1, 3, 32, 32), [""])
    assert features.shape == (1, 2 * (64 + 256 + MAX_WIDTH) + MAX_WIDTH)
    assert features.shape[1] <= MAX_DIM


def test_a_transformer_is_encoded_by_its_blocks() -> None:
    features = TimmEncoder(small_vit(), "timm:small", "small").encode(torch.rand(2, 3, 64, 64), ["", ""])
    assert features.shape == (2, 24 + 3 * 2 * 24)


def test_a_model_without_middle_layers_is_refused() -> None:
    class Opaque(torch.nn.Module):
        pretrained_cfg = small_vit().pretrained_cfg
        weight = torch.nn.Parameter(torch.ones(1))

    with pytest.raises(ConfigError, match="'timm:opaque' does not give its middle layers"):
        TimmEncoder(Opaque(), "timm:opaque", "opaque")
