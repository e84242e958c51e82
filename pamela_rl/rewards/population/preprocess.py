"""Preprocessing of the published models, on the device and differentiable, where the originals use PIL.

PIL rounds to bytes after each direction and this does not. For smooth pictures and noise of 20 to 768 pixels a side, a
pixel differs by at most 1.1 / 255 before it is standardized, and by 0.3 / 255 on average.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from pamela_rl.rewards.encoders.preprocessing import resize

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's CLIP; every reward of this package uses it
STD = (0.26862954, 0.26130258, 0.27577711)


def resize_center_crop(images: Tensor, size: int, rounding: Callable[[float], int]) -> Tensor:
    """Resize the shorter side to ``size`` and crop the centre.

    Args:
        images: RGB in [0, 1], ``(b, 3, height, width)``.
        size: Pixels.
        rounding: Rounds the offset of the crop: ``int`` in transformers' CLIPImageProcessor, ``round`` in torchvision's
            CenterCrop.

    Returns:
        RGB in [0, 1], ``(b, 3, size, size)``.
    """
    height, width = images.shape[-2:]
    shorter = min(height, width)
    images = resize(images, int(size * height / shorter), int(size * width / shorter))
    top, left = (rounding((side - size) / 2) for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def resize_pad(images: Tensor, size: int) -> Tensor:
    """Resize the longer side to ``size`` and pad the other with black on both sides.

    Args:
        images: RGB in [0, 1], ``(b, 3, height, width)``.
        size: Pixels.

    Returns:
        RGB in [0, 1], ``(b, 3, size, size)``.
    """
    scale = size / max(images.shape[-2:])
    height, width = (round(side * scale) for side in images.shape[-2:])
    below, right = size - height, size - width
    borders = (right // 2, right - right // 2, below // 2, below - below // 2)
    return pad(resize(images, height, width), borders)


def standardize(images: Tensor) -> Tensor:
    """Subtract CLIP's mean and divide by its standard deviation, colour by colour, ``(b, 3, height, width)``."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std
