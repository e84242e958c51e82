from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from published_files import as_tensor, image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pamela_rl.rewards.population.preprocess import MEAN, STD, resize_center_crop, resize_pad, standardize

SHAPES = [(32, 32), (64, 64), (224, 224), (48, 80), (91, 60), (60, 91), (24, 24), (20, 33)]
Drawn = Callable[[int, int], Image.Image]
TOLERANCE = 1.1 / 255  # of a pixel in [0, 1]: PIL rounds to bytes after each direction


def grain(height: int, width: int) -> Image.Image:
    """Noise, where bicubic overshoots most."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8))


def each_shape(test: Callable[..., None]) -> Callable[..., None]:
    with_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)(test)
    return pytest.mark.parametrize("drawn", [image, grain])(with_shapes)


def check(ours: Tensor, theirs: Tensor, shape: tuple[int, int]) -> None:
    std = torch.tensor(STD).view(3, 1, 1)
    assert ours.shape == theirs.shape
    difference = ((ours - theirs) * std).abs()
    assert difference.max() < (1e-6 if shape == (32, 32) else TOLERANCE)
    assert difference.mean() < 0.5 / 255


@each_shape
def test_cover_is_what_transformers_clip_processor_does(drawn: Drawn, shape: tuple[int, int]) -> None:
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    theirs = torch.from_numpy(np.stack(processor([drawn(*shape)]).pixel_values))
    check(standardize(resize_center_crop(as_tensor([drawn(*shape)]), 32, rounding=int)), theirs, shape)


@each_shape
def test_cover_with_rounding_is_what_imagereward_asks_of_torchvision(drawn: Drawn, shape: tuple[int, int]) -> None:
    resize = Resize(32, interpolation=InterpolationMode.BICUBIC)
    transform = Compose([resize, CenterCrop(32), ToTensor(), Normalize(MEAN, STD)])
    check(
        standardize(resize_center_crop(as_tensor([drawn(*shape)]), 32, rounding=round)),
        transform(drawn(*shape))[None],
        shape,
    )


@each_shape
def test_contain_is_open_clips_longest_side_filled_with_black(drawn: Drawn, shape: tuple[int, int]) -> None:
    transform = image_transform_v2(PreprocessCfg(size=32, resize_mode="longest", fill_color=0), is_train=False)
    check(standardize(resize_pad(as_tensor([drawn(*shape)]), 32)), transform(drawn(*shape))[None], shape)


def test_the_two_ways_of_rounding_cut_one_pixel_apart_where_the_middle_lies_between_two() -> None:
    ramp = torch.linspace(0, 1, 35).expand(1, 3, 32, 35)  # 3 pixels too wide
    assert torch.equal(resize_center_crop(ramp, 32, rounding=int), ramp[..., 1:33])
    assert torch.equal(resize_center_crop(ramp, 32, rounding=round), ramp[..., 2:34])


def test_overshoot_of_the_resize_stays_within_black_and_white() -> None:
    stripes = (torch.arange(96) // 12 % 2).float().expand(1, 3, 96, 96)
    assert resize_center_crop(stripes, 32, rounding=int).aminmax() == (0, 1)
    assert resize_pad(stripes, 32).aminmax() == (0, 1)
