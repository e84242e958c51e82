from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pamela_rl.data.images import FolderImages
from pamela_rl.rewards.encoders.feature_cache import encode_store
from pamela_rl.rewards.encoders.pixels import SIZE, PixelEncoder


@pytest.mark.parametrize(("width", "height"), [(128, 128), (64, 96), (17, 40), (8, 8)])
def test_features_of_a_file_are_those_of_its_tensor(width: int, height: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    from_file = encode_store(PixelEncoder(), FolderImages(tmp_path), ["a.png", "a.png"], ["", "a boat"])
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(from_file, PixelEncoder().encode(tensor, [""]).expand(2, -1))


def test_features_are_the_means_of_blocks_of_pixels() -> None:
    images = torch.rand(2, 3, 64, 64)
    means = images.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)).flatten(1)
    torch.testing.assert_close(PixelEncoder().encode(images, ["", ""]), means)
    assert means.shape == (2, 3 * SIZE * SIZE)


def test_gradients_reach_every_pixel() -> None:
    images = torch.rand(1, 3, 64, 48, requires_grad=True)
    PixelEncoder().encode(images, [""]).sum().backward()
    assert images.grad is not None
    assert (images.grad > 0).all()
