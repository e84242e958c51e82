"""Images and contact sheets as PNG."""

from __future__ import annotations

import io
import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def to_png(image: Tensor) -> bytes:
    """Encode one image, ``(3, h, w)`` in [0, 1], as PNG."""
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def contact_sheet(images: Tensor, columns: int, scale: int = 2) -> Tensor:
    """Arrange images, ``(n, 3, h, w)``, in rows, enlarged ``scale`` times; empty cells are white."""
    count, _, height, width = images.shape
    rows = math.ceil(count / columns)
    padded = torch.cat([images, images.new_ones(rows * columns - count, 3, height, width)])
    sheet = (
        padded.view(rows, columns, 3, height, width).permute(2, 0, 3, 1, 4).reshape(3, rows * height, columns * width)
    )
    return sheet.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def save_contact_sheet(images: Tensor, path: Path, columns: int, scale: int = 2) -> None:
    """Write a contact sheet as PNG."""
    path.write_bytes(to_png(contact_sheet(images, columns, scale)))
