"""Line charts as inline SVG, and images as data URIs."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

from torch import Tensor

from pamela_rl.evaluation.contact_sheets import to_png


def data_uri(image: Tensor) -> str:
    """Encode one image, ``(3, h, w)`` in [0, 1], as a data URI."""
    return "data:image/png;base64," + base64.b64encode(to_png(image)).decode("ascii")


def _tick(value: float, span: float) -> str:
    """Format a tick label, in scientific notation where the span is tiny."""
    return f"{value:.1e}" if 0 < span < 0.01 else f"{value:.2f}"


_COLOURS = ("var(--own)", "var(--other)", "var(--good)")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 230, 54, 12, 34, 34


def line_chart(
    title: str,
    curves: Mapping[str, Sequence[float | None]],
    x_label: str,
    xs: Sequence[float],
    mark: float | None = None,
    mark_title: str = "best by the judge",
    ticks: Sequence[float] = (),
) -> str:
    """Draw curves as inline SVG; gaps where a value is missing.

    Args:
        title: For screen readers.
        curves: By name, each as long as ``xs``.
        x_label: What ``xs`` are.
        xs: Along the x axis, rising or not.
        mark: An x value with a vertical line, e.g. the best iteration by the judge; none where it is outside ``xs``.
        mark_title: What the vertical line is, for a pointer that rests on it.
        ticks: x values written under the axis; none writes the first and the last beside the label.

    Returns:
        The SVG; empty where there is no value at all.
    """
    values = [v for curve in curves.values() for v in curve if v is not None]
    if not values:
        return ""
    low, high = _with_margin(min(values), max(values), 0.08)
    first, last = min(xs), max(xs)
    span = (last - first) or 1.0

    def x(value_x: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value_x - first) / span

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / (high - low))

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for tick in range(4):
        value = low + (high - low) * (tick + 0.5) / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_tick(value, high - low)}</text>'
        )
    if mark is not None and first <= mark <= last:
        at = f"{x(mark):.1f}"
        line = f'x1="{at}" x2="{at}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"'
        parts.append(
            f'<line {line} stroke="var(--soft)" stroke-dasharray="3 3"><title>{html.escape(mark_title)}</title></line>'
        )
    for number, (name, curve) in enumerate(curves.items()):
        points = [None if v is None else (x(value_x), y(v)) for value_x, v in zip(xs, curve)]
        parts.append(_curve(name, points, _COLOURS[number % len(_COLOURS)], _LEFT + number * 105))
    for at_tick in ticks:
        anchor = "end" if at_tick == last else "middle"  # the last would reach over the frame
        parts.append(
            f'<text x="{x(at_tick):.1f}" y="{_HEIGHT - _BOTTOM + 13}" text-anchor="{anchor}">{at_tick:g}</text>'
        )
    label = html.escape(x_label) if ticks else f"{html.escape(x_label)} {_range(first, last, span)}"
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{label}</text></svg>')
    return "".join(parts)


def _range(first: float, last: float, span: float) -> str:
    return f"{_tick(first, span)} to {_tick(last, span)}" if span < 1 else f"{first:.0f} to {last:.0f}"


def _with_margin(low: float, high: float, share: float) -> tuple[float, float]:
    margin = share * (high - low) or 0.5
    return low - margin, high + margin


def _curve(name: str, points: Sequence[tuple[float, float] | None], colour: str, legend: float) -> str:
    """Draw one curve, interrupted at gaps, with a dot for a single value, and its legend entry."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    parts = []
    for run in filter(None, runs):
        if len(run) == 1:
            parts.append(f'<circle cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="2.5" fill="{colour}"/>')
        else:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts.append(f'<rect x="{legend}" y="12" width="12" height="3" fill="{colour}"/>')
    parts.append(f'<text x="{legend + 17}" y="18">{html.escape(name)}</text>')
    return "".join(parts)
