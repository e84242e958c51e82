"""Pictures of results: PNG for photographs, SVG for curves, nothing fetched."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def to_png(image: Tensor) -> bytes:
    """Encode one picture, ``(3, h, w)`` in [0, 1], as PNG."""
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(image: Tensor) -> str:
    """Encode one picture, ``(3, h, w)`` in [0, 1], so that a page can hold it."""
    return "data:image/png;base64," + base64.b64encode(to_png(image)).decode("ascii")


def contact_sheet(images: Tensor, columns: int, scale: int = 2) -> Tensor:
    """Lay pictures, ``(n, 3, h, w)``, out in rows, each pixel enlarged ``scale`` times; empty places are white."""
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


def _tick(value: float, span: float) -> str:
    """Write a tick with just the digits that tell it from the next, in powers of ten where it is tiny."""
    return f"{value:.1e}" if 0 < span < 0.01 else f"{value:.2f}"


_COLOURS = ("var(--own)", "var(--other)", "var(--good)")


def line_chart(title: str, curves: Mapping[str, Sequence[float | None]], x_label: str) -> str:
    """Draw curves over 1, 2, 3, … as inline SVG; gaps where a value is missing."""
    width, height, left, right, top, bottom = 420, 230, 54, 12, 34, 34
    values = [v for curve in curves.values() for v in curve if v is not None]
    if not values:
        return ""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    low, high = low - margin, high + margin
    length = max(len(curve) for curve in curves.values())

    def x(place: int) -> float:
        return left + (width - left - right) * place / max(1, length - 1)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (1 - (value - low) / (high - low))

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">']
    for tick in range(4):
        value = low + (high - low) * (tick + 0.5) / 4
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="var(--line)"/>'
            f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_tick(value, high - low)}</text>'
        )
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        runs: list[list[str]] = [[]]
        for place, height_there in enumerate(curve):
            if height_there is None:
                runs.append([])
            else:
                runs[-1].append(f"{x(place):.1f},{y(height_there):.1f}")
        for run in filter(None, runs):
            parts.append(f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = left + number * 105
        parts.append(
            f'<rect x="{at}" y="12" width="12" height="3" fill="{colour}"/>'
            f'<text x="{at + 17}" y="18">{html.escape(name)}</text>'
        )
    middle = (left + width - right) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{html.escape(x_label)} 1 to {length}</text></svg>'
    )
    return "".join(parts)
