"""Formatting of agreements as text, for terminals of 120 characters, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pamela_rl.agreement.measures import Score

NAME_WIDTH = 26  # longer names end in an ellipsis
MISSING = "-"


def align_columns(counted: str, rows: Sequence[tuple[str, int, Mapping[str, str]]]) -> str:
    """Format a table with one model per row.

    Args:
        counted: Unit of the counts, for the heading, e.g. "people".
        rows: Name, count, and cells by heading; columns without content are left out.
    """
    headings = dict.fromkeys(h for _, _, cells in rows for h, cell in cells.items() if cell != MISSING)
    table = [["", *headings], *([_short(name), *(cells.get(h, MISSING) for h in headings)] for name, _, cells in rows)]
    counts = [counted, *(str(count) for _, count, _ in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for (name, *cells), count in zip(table, counts):
        padded = (f"{cell:{width}}" for cell, width in zip(cells, widths[1:]))
        lines.append("  ".join([f"{name:{widths[0]}}", f"{count:>{len(counted)}}", *padded]).rstrip())
    return "\n".join(lines)


def count_of(count: int, one: str, many: str | None = None) -> str:
    """Format a number with what it counts, such as ``1 person`` and ``1,200 people``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def with_interval(score: Score) -> str:
    """Format a correlation or a share with its interval, such as ``0.451 [.41, .49]``."""
    if np.isnan(score[0]):
        return MISSING
    if np.isnan(score[1]):
        return f"{score[0]:.3f}"
    low, high = (f"{end:.2f}".replace("0.", ".", 1) for end in score[1:])
    return f"{score[0]:.3f} [{low}, {high}]"


def estimate(score: Score) -> str:
    """Format an estimate without its interval."""
    return MISSING if np.isnan(score[0]) else f"{score[0]:.3f}"


def percentages(scores: Sequence[Score]) -> str:
    """Format shares in percent without their intervals, such as ``52 81 94``."""
    return " ".join(f"{100 * score[0]:.0f}" for score in scores) if scores and not np.isnan(scores[0][0]) else MISSING


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None in nested lists and mappings."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _short(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
