"""The figure and the table of benchmarks/algorithms.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pamela_rl.evaluation.statistics import Interval, bootstrap_mean

Row = Mapping[str, Any]
SCORES = {
    "true_rating": ("eval/true_rating_mean", "true rating, gain"),
    "judge": ("eval/judge_mean", "judge, gain"),
    "faithfulness": ("eval/faithfulness_mean", "faithful, share"),
    "diversity": ("eval/diversity", "diversity, RMS"),
}
GAINS = ("true_rating", "judge")


def interval(rows: Sequence[Row], values: Sequence[float]) -> Interval:
    """Mean of one value a run, with a 95 % interval over people and seeds."""
    users = np.unique([row["user"] for row in rows], return_inverse=True)[1]
    seeds = np.array([row["seed"] for row in rows])
    return bootstrap_mean(np.asarray(values, dtype=float), users, seeds)


def gains(rows: Sequence[Row], score: str) -> list[float]:
    """What each run gained over the base on held-out prompts."""
    return [row["own"][score] - row["base"][score] for row in rows]


def table(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """One Markdown table a model: gains on held-out prompts, seconds, and gain a minute."""
    parts = []
    for model in dict.fromkeys(row["model"] for row in rows):
        lines = [
            f"| {model} | true rating gained | judge gained | faithful | diversity | seconds a run | gained a minute |",
            "|---|---|---|---|---|---|---|",
        ]
        for arm, title in titles.items():
            runs = [r for r in rows if r["model"] == model and r["arm"] == arm and not r["zero"]]
            if runs:
                lines.append(_line(title, runs))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(title: str, runs: Sequence[Row]) -> str:
    rating, judge = (interval(runs, gains(runs, score)) for score in GAINS)
    minutes = np.mean([row["seconds"] for row in runs]) / 60
    share = np.mean([row["own"]["faithfulness"] for row in runs]) / np.mean([r["base"]["faithfulness"] for r in runs])
    spread = np.mean([row["own"]["diversity"] for row in runs])
    cells = [
        title,
        f"{rating.estimate:+.2f} [{rating.low:+.2f}, {rating.high:+.2f}]",
        f"{judge.estimate:+.2f}",
        f"{share:.0%}",
        f"{spread:.2f}",
        f"{60 * minutes:.0f}",
        f"{rating.estimate / minutes:+.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def draw_figure(rows: Sequence[Row], titles: Mapping[str, str], path: Path) -> None:
    """Draw every score against pictures and against seconds, one pair of columns a model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(4.2 * 2 * len(models), 11), layout="constrained")
    panels = figure.subplots(len(SCORES), 2 * len(models), squeeze=False)
    colours = dict(zip(titles, matplotlib.colormaps["tab10"].colors, strict=False))
    for column, model in enumerate(models):
        for arm, title in titles.items():
            runs = [r for r in rows if r["model"] == model and r["arm"] == arm and not r["zero"]]
            if not runs:
                continue
            for line, (score, (key, label)) in enumerate(SCORES.items()):
                for side, place in enumerate(("images", "seconds")):
                    axes = panels[line][2 * column + side]
                    _curve(axes, runs, key, place, score in GAINS, title, colours[arm])
                    axes.set_ylabel(label if side == 0 else "")
                    axes.set_xlabel("pictures" if place == "images" else "seconds on one core")
        panels[0][2 * column].set_title(f"{model}: at equal pictures")
        panels[0][2 * column + 1].set_title(f"{model}: at equal seconds")
    panels[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def _curve(axes: Axes, runs: Sequence[Row], key: str, place: str, relative: bool, title: str, colour: Any) -> None:
    """The mean over runs, and the spread of its mean over people, as a band."""
    count = min(len(row["looks"]) for row in runs)
    values = np.array([[look[key] for look in row["looks"][:count]] for row in runs])
    places = np.array([[look[place] for look in row["looks"][:count]] for row in runs]).mean(axis=0)
    if relative:
        values = values - values[:, :1]
    people = np.unique([row["user"] for row in runs], return_inverse=True)[1]
    means = np.array([values[people == person].mean(axis=0) for person in range(people.max() + 1)])
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.zeros(count)
    axes.plot(places, means.mean(axis=0), "o-", markersize=3, label=title, color=colour)
    axes.fill_between(places, means.mean(axis=0) - error, means.mean(axis=0) + error, color=colour, alpha=0.12)
    axes.grid(alpha=0.3)
