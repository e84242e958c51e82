"""The figure and the table of benchmarks/algorithms.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pamela_rl.intervals import Interval, mean_interval

Row = Mapping[str, Any]
SCORES = {
    "reward": ("eval/reward_mean", "reward, gain"),
    "true_rating": ("eval/true_rating_mean", "true rating, gain"),
    "judge": ("eval/judge_mean", "judge, gain"),
    "faithfulness": ("eval/faithfulness_mean", "faithful, share"),
    "diversity": ("eval/diversity", "diversity, RMS"),
}
GAINS = ("reward", "true_rating", "judge")


def interval(rows: Sequence[Row], values: Sequence[float]) -> Interval:
    """Mean of one value a run, with a 95 % interval over people and seeds, for the prompts that all runs share."""
    users = np.unique([row["user"] for row in rows], return_inverse=True)[1]
    seeds = np.array([row["seed"] for row in rows])
    return mean_interval(np.asarray(values, dtype=float), users, seeds)


def gains(rows: Sequence[Row], score: str) -> list[float]:
    """What each run gained over the base on held-out prompts."""
    return [row["own"][score] - row["base"][score] for row in rows]


def table(rows: Sequence[Row], titles: Mapping[str, str], rival: str | None = None) -> str:
    """One Markdown table a model: gains on held-out prompts, seconds, gain a minute, and the gain over a rival arm's."""
    parts = []
    for model in dict.fromkeys(row["model"] for row in rows):
        heads = [
            model,
            "true rating gained",
            "reward",
            "judge",
            "faithful",
            "diversity",
            "seconds a run",
            "gained a minute",
        ]
        heads += [f"over {titles[rival]}"] if rival else []
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for arm, title in titles.items():
            runs = [r for r in rows if r["model"] == model and r["arm"] == arm and not r["zero"]]
            if runs:
                others = [r for r in rows if r["model"] == model and r["arm"] == rival and not r["zero"]]
                lines.append(_line(title, runs, others))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def foretold(rows: Sequence[Row]) -> str:
    """Say over all runs how far the gains told by reward and judge agree with the true gain."""
    runs = [row for row in rows if not row["zero"]]
    true = np.array(gains(runs, "true_rating"))
    parts = []
    for score in ("judge", "reward"):
        told = np.array(gains(runs, score))
        fell = int(((told < 0) & (true < 0)).sum())
        parts.append(f"{score}: correlation {np.corrcoef(told, true)[0, 1]:+.2f}, fell in {fell} of {int((true < 0).sum())}"
                     f" runs whose true rating fell and in {int(((told < 0) & (true >= 0)).sum())} others")  # fmt: skip
    return f"gains over {len(runs)} runs, with the true gain: " + "; ".join(parts)


def _line(title: str, runs: Sequence[Row], others: Sequence[Row]) -> str:
    rating, reward, judge = (interval(runs, gains(runs, score)) for score in ("true_rating", "reward", "judge"))
    minutes = np.mean([row["seconds"] for row in runs]) / 60
    share = np.mean([row["own"]["faithfulness"] for row in runs]) / np.mean([r["base"]["faithfulness"] for r in runs])
    spread = np.mean([row["own"]["diversity"] for row in runs])
    cells = [
        title,
        _signed(rating),
        f"{reward.estimate:+.2f}",
        f"{judge.estimate:+.2f}",
        f"{share:.0%}",
        f"{spread:.2f}",
        f"{60 * minutes:.0f}",
        f"{rating.estimate / minutes:+.2f}",
    ]
    if others:
        theirs = {(row["user"], row["seed"]): row["own"]["true_rating"] for row in others}
        paired = [row for row in runs if (row["user"], row["seed"]) in theirs]
        over = [row["own"]["true_rating"] - theirs[row["user"], row["seed"]] for row in paired]
        cells.append(_signed(interval(paired, over)) if any(over) else "")
    return "| " + " | ".join(cells) + " |"


def _signed(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.estimate:+.2f}"
    return f"{value.estimate:+.2f} [{value.low:+.2f}, {value.high:+.2f}]"


def draw_figure(rows: Sequence[Row], titles: Mapping[str, str], against: Mapping[str, str], path: Path) -> None:
    """Draw every score against each of some places, e.g. pictures and seconds; one group of columns a model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(4.2 * len(against) * len(models), 13), layout="constrained")
    panels = figure.subplots(len(SCORES), len(against) * len(models), squeeze=False)
    colours = dict(
        zip(titles, [*matplotlib.colormaps["tab10"].colors, *matplotlib.colormaps["Dark2"].colors], strict=False)
    )
    for column, (model, (place, where)) in enumerate(product(models, against.items())):
        longest = max((row["validation"] for row in rows if row["model"] == model), key=len)
        for arm, title in titles.items():
            runs = [r for r in rows if r["model"] == model and r["arm"] == arm and not r["zero"]]
            for axes, (score, (key, label)) in zip(panels[:, column], SCORES.items(), strict=True):
                axes.set_xlabel(where)
                axes.set_ylabel(label if column % len(against) == 0 else "")
                axes.grid(alpha=0.3)
                if runs:
                    _curve(axes, runs, longest, key, place, score in GAINS, title, colours[arm])
        panels[0][column].set_title(model)
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels[0]), key=lambda pair: len(pair[0]))
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def _curve(
    axes: Axes,
    runs: Sequence[Row],
    longest: Sequence[Row],
    key: str,
    place: str,
    relative: bool,
    title: str,
    colour: Any,
) -> None:
    """The mean over runs, and where places come in order the spread of its mean over people, as a band."""
    held = [_went_on(row["validation"], longest) for row in runs]
    values = np.array([[row[key] for row in validation] for validation in held])
    places = np.array([[row[place] for row in validation] for validation in held]).mean(axis=0)
    if relative:
        values = values - values[:, :1]
    people = np.unique([row["user"] for row in runs], return_inverse=True)[1]
    means = np.array([values[people == person].mean(axis=0) for person in range(people.max() + 1)])
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.zeros(values.shape[1])
    axes.plot(places, means.mean(axis=0), "o-", markersize=3, label=title, color=colour)
    if (np.diff(places) > 0).all():
        axes.fill_between(places, means.mean(axis=0) - error, means.mean(axis=0) + error, color=colour, alpha=0.12)


def _went_on(validation: Sequence[Row], longest: Sequence[Row]) -> list[Row]:
    """The validations of a run; after the judge stopped it, the one that was published."""
    if len(validation) == len(longest):
        return list(validation)
    best = max(validation, key=lambda row: row["eval/judge_mean"])
    spent = ("iteration", "images", "seconds")
    return [*validation, *({**best, **{key: later[key] for key in spent}} for later in longest[len(validation) :])]
