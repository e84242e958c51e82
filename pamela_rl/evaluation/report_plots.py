"""The report's figures as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pamela_rl.evaluation.compare import BASE
from pamela_rl.evaluation.report_strengths import gain_curves, side_effect_curves, side_effects_title
from pamela_rl.evaluation.verdict import arm_title, score_name
from pamela_rl.storage import ensure_writable

_CURVES = {
    "eval/reward_mean": "reward",
    "eval/judge_mean": "judge",
    "eval/true_rating_mean": "true rating",
    "eval/faithfulness_mean": "faithful",
    "eval/diversity": "diversity",
}
_COLOURS = ("#b3541e", "#2f6690", "#3a7d44", "#8a8880")
_DPI = 160
MAX_LABEL_LENGTH = 20  # characters


def draw_plots(
    folder: Path, summary: Mapping[str, Any], validation: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Path]:
    """Draw ``arms.png`` and, where the data is there, the other figures; return the files.

    The others are ``matrix.png``, ``over_optimization.png`` and ``strengths.png``.
    """
    ensure_writable(folder)
    figures = {"arms": _arms(summary)}
    if "matrix" in summary:
        figures["matrix"] = _matrix(summary["matrix"], score_name(summary["primary_score"]))
    rows_by_user = [list(rows) for rows in validation.values() if len(rows) > 1]
    if rows_by_user:
        figures["over_optimization"] = _over_optimization(rows_by_user)
    if "strengths" in summary:
        figures["strengths"] = _strengths(summary)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=_DPI)
    return [folder / f"{name}.png" for name in figures]


def _arms(summary: Mapping[str, Any]) -> Figure:
    primary_score = summary["primary_score"]
    gains = {arm: row["gain"][primary_score] for arm, row in summary["overall"].items() if arm != BASE}
    figure = Figure(figsize=(6.4, 0.8 + 0.42 * max(1, len(gains))), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(gains))[::-1]
    for position, gain in zip(positions, gains.values()):
        if gain["low"] is not None:
            axes.plot([gain["low"], gain["high"]], [position, position], color="#b3541e", linewidth=2)
        axes.plot(gain["estimate"], position, "o", color="#b3541e")
    axes.axvline(0, color="#8a8880", linewidth=1)
    axes.set_yticks(positions, [arm_title(arm) for arm in gains])
    over = "prompts" if len(summary["users"]) == 1 else "people and prompts"
    axes.set_xlabel(f"gain in {score_name(primary_score)} over the base, 95 % interval over {over}")
    return figure


def _matrix(matrix: Mapping[str, Mapping[str, Mapping[str, float]]], name: str) -> Figure:
    users = list(matrix)
    names = [_label(user) for user in users]
    values = np.array([[matrix[user][other]["estimate"] for other in users] for user in users])
    largest = float(np.abs(values).max()) or 1.0
    side = 2.2 + 0.55 * len(users)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdYlGn", vmin=-largest, vmax=largest)
    for row, column in np.ndindex(values.shape):
        axes.text(column, row, f"{values[row, column]:+.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(users)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(users)), names)
    axes.set_xlabel("adapter of")
    axes.set_ylabel("scored as")
    figure.colorbar(image, label=f"gain in {name} over the base")
    return figure


def _label(user: str) -> str:
    """Shorten a name and escape its dollar signs, which would start a formula."""
    short = user if len(user) <= MAX_LABEL_LENGTH else f"{user[: MAX_LABEL_LENGTH - 1]}…"
    return short.replace("$", r"\$")


def _over_optimization(users: Sequence[Sequence[Mapping[str, Any]]]) -> Figure:
    """Plot means over users against iterations and against KL, over the validations that all users have."""
    count = min(map(len, users))
    iterations = [row["iteration"] for row in users[0][:count]]
    distances = _mean_over(users, "eval/kl_to_reference", count)
    names = [key for key in _CURVES if all(key in row for rows in users for row in rows[:count])]
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    grid = figure.subplots(2, 2)
    for column, (positions, label) in enumerate(((iterations, "iterations"), (distances, "KL to the base"))):
        for key in names:
            axes = grid[0 if key in list(_CURVES)[:3] else 1][column]
            order = np.argsort(positions)
            values = np.array(_mean_over(users, key, count))
            axes.plot(np.array(positions)[order], values[order], "o-", markersize=3, label=_CURVES[key])
        for axes in grid[:, column]:
            axes.set_xlabel(label)
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(frameon=False)
    if "eval/judge_mean" in names:
        best = int(np.argmax(_mean_over(users, "eval/judge_mean", count)))
        grid[0][0].axvline(iterations[best], color="#8a8880", linestyle=":", label="best by the judge")
        grid[0][1].axvline(distances[best], color="#8a8880", linestyle=":")
        grid[0][0].legend(frameon=False)
    return figure


def _strengths(summary: Mapping[str, Any]) -> Figure:
    """Plot means over users against the strength of their own adapters: gains on the left, side effects on the right."""
    rows, primary_score = summary["strengths"]["overall"], summary["primary_score"]
    gains: Mapping[str, Sequence[float | None]] = gain_curves(rows, primary_score)
    side_effects = side_effect_curves(rows, summary["units"])
    strengths = [row["strength"] for row in rows]
    panels = 1 + bool(side_effects)
    figure = Figure(figsize=(4.8 * panels, 3.4), layout="constrained")
    left, *right = figure.subplots(1, panels, squeeze=False)[0]
    ends = [row["gain"][primary_score] for row in rows]
    if all(end["low"] is not None for end in ends):
        low, high = ([end[name] for end in ends] for name in ("low", "high"))
        left.fill_between(strengths, low, high, color=_COLOURS[0], alpha=0.15, linewidth=0, label="95 % interval")
    left.axhline(0, color="#8a8880", linewidth=1)
    axes = [left, *right, *(panel.twinx() for panel in right if len(side_effects) > 1)]
    colours, corners = (
        iter(_COLOURS),
        iter(("best", "lower left", "upper right") if len(axes) > 2 else ("best", "best")),
    )
    for panel, curves in zip(axes, [gains, *side_effects]):
        for name, values in curves.items():
            panel.plot(strengths, np.array(values, dtype=float), "o-", color=next(colours), markersize=4, label=name)
        panel.set_ylabel("gain over the base" if panel is left else side_effects_title(curves))
        panel.legend(frameon=False, fontsize=8, loc=next(corners))
    for panel in (left, *right):
        panel.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
        panel.set_xlabel("strength (0: base model, 1: as trained)")
        panel.grid(alpha=0.3)
    return figure


def _mean_over(users: Sequence[Sequence[Mapping[str, Any]]], key: str, count: int) -> list[float]:
    values = [[row[key] if row[key] is not None else np.nan for row in rows[:count]] for rows in users]
    return [float(value) for value in np.mean(values, axis=0)]
