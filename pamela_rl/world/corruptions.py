"""Image corruptions, and the milder changes of tone and sharpness that do not count as corruption."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def vary_tone(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift exposure, warmth and saturation a little, ``(b, 3, h, w)`` in [0, 1]."""
    count = len(images)
    grey = images.mean(dim=1, keepdim=True)
    saturated = grey + (images - grey) * _uniform(generator, 0.6, 1.3, count, 1, 1, 1)
    warmth = _uniform(generator, -0.08, 0.08, count, 1, 1, 1)
    cast = torch.cat([warmth, torch.zeros_like(warmth), -warmth], dim=1)
    return ((saturated + cast).clamp(0, 1) ** _uniform(generator, 0.7, 1.45, count, 1, 1, 1)).clamp(0, 1)


def soften(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur slightly and add faint noise, as a small autoencoder does."""
    size = images.shape[-1]
    small = interpolate(images, size=size * 3 // 4, mode="bilinear", antialias=True)
    blurred = interpolate(small, size=size, mode="bilinear")
    share = _uniform(generator, 0.0, 0.8, len(images), 1, 1, 1)
    noise = 0.015 * torch.randn(images.shape, generator=generator)
    return (images + (blurred - images) * share + noise).clamp(0, 1)


def corrupt(images: Tensor, generator: torch.Generator) -> Tensor:
    """Corrupt each picture in one of five ways: blurred, blended, washed out, noisy, or with shuffled tiles."""
    size, count = images.shape[-1], len(images)
    kind = torch.randint(5, (count,), generator=generator)[:, None, None, None]
    small = interpolate(images, size=size // 10, mode="bilinear", antialias=True)
    blurred = interpolate(small, size=size, mode="bilinear")
    other = images[torch.randperm(count, generator=generator)].flip(-1)
    blended = 0.5 * images + 0.5 * other
    flat = images.mean(dim=(2, 3), keepdim=True) + (images - images.mean(dim=(2, 3), keepdim=True)) * 0.15
    noisy = (images + 0.25 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    tiles = images.unflatten(2, (4, -1)).unflatten(4, (4, -1))
    shuffled = tiles[:, :, torch.randperm(4, generator=generator)][:, :, :, :, torch.randperm(4, generator=generator)]
    cut = shuffled.flatten(4, 5).flatten(2, 3)
    result = images
    for number, corrupted in enumerate((blurred, blended, flat, noisy, cut)):
        result = torch.where(kind == number, corrupted, result)
    return result
