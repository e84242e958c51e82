from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.preprocessing import Preprocessing

PLAIN = (0.0,) * 3, (1.0,) * 3
SIZES = [(64, 64), (32, 32), (50, 100), (100, 50), (20, 31), (31, 20), (500, 333), (97, 98), (65, 64), (400, 100)]


def smooth(height: int, width: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def open_clips(ours: Preprocessing, image: Image.Image) -> Tensor:
    return image_transform_v2(PreprocessCfg(**asdict(ours)), is_train=False)(image)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(64, 64), (33, 33), (48, 64)])
def test_tensors_become_the_pixels_that_open_clip_makes_of_the_same_files(
    size: tuple[int, int], resize_mode: str, interpolation: str, shape: tuple[int, int]
) -> None:
    ours = Preprocessing(size, *PLAIN, interpolation, resize_mode, fill_color=77)
    image = smooth(*shape)
    pixels = ours(as_tensor(image))[0]
    torch.testing.assert_close(pixels, open_clips(ours, image), atol=1.1 / 255, rtol=0)
    assert torch.equal(ours.from_pil(image), open_clips(ours, image))


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("shape", [(31, 20), (64, 65), (97, 240), (500, 333)])
def test_even_on_noise_the_difference_is_one_of_rounding_on_average(shape: tuple[int, int], resize_mode: str) -> None:
    ours = Preprocessing((48, 48), *PLAIN, "bicubic", resize_mode)
    difference = ours(as_tensor(noise(*shape)))[0] - open_clips(ours, noise(*shape))
    assert difference.abs().mean() < 0.45 / 255
    assert difference.mean().abs() < 0.1 / 255


@pytest.mark.parametrize("resize_mode", ["shortest", "longest"])
@pytest.mark.parametrize("shape", [(64, 97), (99, 64), (64, 33), (34, 64), (64, 69), (64, 64)])
def test_what_needs_no_resizing_is_cut_and_padded_at_the_very_same_pixels(
    shape: tuple[int, int], resize_mode: str
) -> None:
    if (max(shape) if resize_mode == "longest" else min(shape)) != 64:
        shape = (64, 128 - shape[1]) if shape[0] == 64 else (128 - shape[0], 64)
    ours = Preprocessing((64, 64), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), resize_mode=resize_mode, fill_color=201)
    torch.testing.assert_close(ours(as_tensor(noise(*shape)))[0], open_clips(ours, noise(*shape)), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(5, 9), (10, 7)])
def test_gradients_with_respect_to_pixels_are_those_of_finite_differences(
    shape: tuple[int, int], interpolation: str, resize_mode: str
) -> None:
    ours = Preprocessing((6, 6), *PLAIN, interpolation, resize_mode)
    images = 0.4 + 0.2 * torch.rand(1, 3, *shape, dtype=torch.float64)  # nowhere near where values are clipped
    assert torch.autograd.gradcheck(ours, images.requires_grad_())


def test_an_encoder_takes_everything_but_mean_and_deviation_from_its_model(encoder: FeatureEncoder) -> None:
    made = Preprocessing.of(encoder.model, [0.1, 0.2, 0.3], [1, 2, 3])
    assert made == Preprocessing((64, 64), (0.1, 0.2, 0.3), (1, 2, 3), "bicubic", "shortest", 0)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"resize_mode": "crop"}, "has resize_mode 'crop'; open_clip knows shortest, longest, squash: correct its"),
        ({"interpolation": "nearest"}, "has interpolation 'nearest'; open_clip knows bicubic, bilinear"),
    ],
)
def test_settings_that_open_clip_does_not_have_are_refused(wrong: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Preprocessing((64, 64), *PLAIN, **wrong)  # type: ignore[arg-type]
