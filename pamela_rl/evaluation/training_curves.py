"""Training curves of one user's run, and how its validation images changed, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pamela_rl.config import IMAGES_PER_PROMPT
from pamela_rl.storage import read_metrics

CURVES, STRIP = "curves.png", "taste.png"
_SCORES = {
    "reward_mean": ("reward", "#b3541e"),
    "judge_mean": ("judge", "#2f6690"),
    "true_rating_mean": ("true rating", "#3a7d44"),
}
_FAITHFUL = "faithfulness_mean"
_FAITHFULNESS = {_FAITHFUL: ("faithful", "#6b4e9b")}
_DIVERSITY = {"diversity": ("diversity", "#8a8880")}
_DPI = 130
_STRIP_IMAGES = 8
_STRIP_SIDE = 128  # pixels; images are enlarged to at least this size


def draw_curves(folder: Path, columns: int) -> list[Path]:
    """Plot a run's ``metrics.jsonl`` and ``validation.jsonl``; nothing where there are fewer than two rows.

    Args:
        folder: The user's; its validation images are in ``validation/``.
        columns: Of the last contact sheet there, one per prompt; sheets of another size, from before a resumed run had other
            validation settings, are left out.

    Returns:
        The files drawn: ``curves.png``, and ``taste.png`` with one row per validation where there were any.
    """
    rows, validation = read_metrics(folder / "metrics.jsonl"), read_metrics(folder / "validation.jsonl")
    files = []
    if len(rows) > 1:
        figure = Figure(figsize=(8.4, 5.6), layout="constrained")
        scores, shares, distance, gradient = figure.subplots(2, 2).flat
        _lines(scores, rows, validation, _SCORES, "score")
        if in_unit_interval([*rows, *validation], _FAITHFUL):
            _lines(shares, rows, validation, _FAITHFULNESS | _DIVERSITY, "share, or RMS difference")
        else:  # a score such as CLIP's, which has an axis of its own
            _lines(shares, rows, validation, _DIVERSITY, "RMS difference")
            _lines(shares.twinx(), rows, validation, _FAITHFULNESS, "faithfulness, in its scorer's unit")
        _curve(distance, validation, "eval/kl_to_reference", "KL of a step to the base model", "#2f6690", "o-")
        _curve(gradient, rows, "train/grad_norm", "gradient norm", "#8a8880", "-")
        for axes in (scores, shares, distance, gradient):
            axes.set_xlabel("iteration")
        for axes in figure.axes:
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8, frameon=False)
        figure.savefig(folder / CURVES, dpi=_DPI)
        files.append(folder / CURVES)
    sheets = [folder / "validation" / f"{row['iteration']:06d}.png" for row in validation]
    sheets = [sheet for sheet in sheets if sheet.exists()]
    sheets = [sheet for sheet in sheets if _size(sheet) == _size(sheets[-1])]
    if len(sheets) > 1:
        _strip(sheets, columns).save(folder / STRIP)
        files.append(folder / STRIP)
    return files


def in_unit_interval(rows: Sequence[Mapping[str, Any]], score: str) -> bool:
    """Tell whether all means of a score, while training and at validations, are between 0 and 1, as shares are."""
    names = (f"rollout/{score}", f"eval/{score}")
    values = [row[name] for row in rows for name in names if row.get(name) is not None]
    return all(0 <= value <= 1 for value in values)


def _lines(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
    names: Mapping[str, tuple[str, str]],
    label: str,
) -> None:
    """Plot rollout scores as thin lines and validation scores with dots."""
    for name, (title, colour) in names.items():
        legend_label = None if validation else title
        _curve(axes, rows, f"rollout/{name}", legend_label, colour, "-", alpha=0.3, linewidth=0.9)
        _curve(axes, validation, f"eval/{name}", title, colour, "o-", markersize=3)
    axes.set_ylabel(label)


def _curve(
    axes: Axes, rows: Sequence[Mapping[str, Any]], name: str, label: str | None, colour: str, style: str, **options: Any
) -> None:
    points = [(row["iteration"], row[name]) for row in rows if row.get(name) is not None]
    if points:
        axes.plot(*zip(*points), style, color=colour, label=label, **options)


def _size(sheet: Path) -> tuple[int, int]:
    with Image.open(sheet) as file:
        return file.size


def _strip(sheets: Sequence[Path], columns: int) -> Image.Image:
    """Stack the first row of each validation sheet: the same prompts and noise over training."""
    rows = []
    for sheet in sheets:
        with Image.open(sheet) as file:
            width = min(columns, _STRIP_IMAGES) * file.width // columns
            rows.append(file.convert("RGB").crop((0, 0, width, file.height // IMAGES_PER_PROMPT)))
    width, height = rows[0].size
    strip = Image.new("RGB", (width, height * len(rows)), "white")
    for row_index, row in enumerate(rows):
        strip.paste(row, (0, row_index * height))
    larger = max(1, _STRIP_SIDE // height)
    return strip.resize((strip.width * larger, strip.height * larger), Image.Resampling.NEAREST)
