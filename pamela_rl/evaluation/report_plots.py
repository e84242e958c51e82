"""The report's figures as PNG, for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pamela_rl.evaluation.compare import BASE
from pamela_rl.evaluation.verdict import arm_title, score_name
from pamela_rl.storage import ensure_writable

_CURVES = {
    "eval/reward_mean": "reward",
    "eval/judge_mean": "judge",
    "eval/true_rating_mean": "true rating",
    "eval/faithfulness_mean": "faithful",
    "eval/diversity": "diversity",
}
_DOTS = 160  # per inch
LONGEST_LABEL = 20  # letters


def draw_plots(
    folder: Path, summary: Mapping[str, Any], validation: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Path]:
    """Draw what there is to draw and return the files: ``arms.png``, ``matrix.png``, ``over_optimization.png``."""
    ensure_writable(folder)
    drawn = {"arms": _arms(summary)}
    if "matrix" in summary:
        drawn["matrix"] = _matrix(summary["matrix"], score_name(summary["decided_by"]))
    rows = [list(people) for people in validation.values() if len(people) > 1]
    if rows:
        drawn["over_optimization"] = _over_optimization(rows)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=_DOTS)
    return [folder / f"{name}.png" for name in drawn]


def _arms(summary: Mapping[str, Any]) -> Figure:
    decided_by = summary["decided_by"]
    gains = {arm: row["gain"][decided_by] for arm, row in summary["overall"].items() if arm != BASE}
    figure = Figure(figsize=(6.4, 0.8 + 0.42 * max(1, len(gains))), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(gains))[::-1]
    for place, gain in zip(places, gains.values()):
        axes.plot([gain["low"], gain["high"]], [place, place], color="#b3541e", linewidth=2)
        axes.plot(gain["estimate"], place, "o", color="#b3541e")
    axes.axvline(0, color="#8a8880", linewidth=1)
    axes.set_yticks(places, [arm_title(arm) for arm in gains])
    axes.set_xlabel(f"gain in {score_name(decided_by)} over the base, 95 % interval")
    return figure


def _matrix(matrix: Mapping[str, Mapping[str, Mapping[str, float]]], name: str) -> Figure:
    people = list(matrix)
    names = [_label(person) for person in people]
    values = np.array([[matrix[person][other]["estimate"] for other in people] for person in people])
    largest = float(np.abs(values).max()) or 1.0
    side = 2.2 + 0.55 * len(people)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(values, cmap="RdYlGn", vmin=-largest, vmax=largest)
    for row, column in np.ndindex(values.shape):
        axes.text(column, row, f"{values[row, column]:+.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(people)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(people)), names)
    axes.set_xlabel("whose adapter")
    axes.set_ylabel("in the eyes of")
    figure.colorbar(shown, label=f"gain in {name} over the base")
    return figure


def _label(person: str) -> str:
    """A name as an axis can bear it: not too long, and no dollar signs, which would start a formula."""
    short = person if len(person) <= LONGEST_LABEL else f"{person[: LONGEST_LABEL - 1]}…"
    return short.replace("$", r"\$")


def _over_optimization(people: Sequence[Sequence[Mapping[str, Any]]]) -> Figure:
    """Means over people against iterations and against KL, over the looks that everybody has."""
    count = min(map(len, people))
    iterations = [row["iteration"] for row in people[0][:count]]
    distances = _mean_over(people, "eval/kl_to_reference", count)
    names = [key for key in _CURVES if all(key in row for rows in people for row in rows[:count])]
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    grid = figure.subplots(2, 2)
    for column, (places, label) in enumerate(((iterations, "iterations"), (distances, "KL to the base"))):
        for key in names:
            axes = grid[0 if key in list(_CURVES)[:3] else 1][column]
            order = np.argsort(places)
            values = np.array(_mean_over(people, key, count))
            axes.plot(np.array(places)[order], values[order], "o-", markersize=3, label=_CURVES[key])
        for axes in grid[:, column]:
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(frameon=False)
    if "eval/judge_mean" in names:
        best = int(np.argmax(_mean_over(people, "eval/judge_mean", count)))
        grid[0][0].axvline(iterations[best], color="#8a8880", linestyle=":", label="the judge would stop")
        grid[0][1].axvline(distances[best], color="#8a8880", linestyle=":")
        grid[0][0].legend(frameon=False)
    return figure


def _mean_over(people: Sequence[Sequence[Mapping[str, Any]]], key: str, count: int) -> list[float]:
    values = [[row[key] if row[key] is not None else np.nan for row in rows[:count]] for rows in people]
    return [float(value) for value in np.mean(values, axis=0)]
