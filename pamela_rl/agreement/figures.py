"""Figures of the agreement with users, from arrays to PNG files.

The colours are the colour-blind safe palette of Okabe and Ito, and every line has its own marker. matplotlib is imported
when a figure is drawn, and without pyplot, so that no state is kept between figures.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pamela_rl.agreement.measures import Array, Score
from pamela_rl.agreement.per_user import agreement
from pamela_rl.agreement.tables import count_of
from pamela_rl.data.ratings import RatingScale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#666666"
NAME_LENGTH = 30
TITLE_HEIGHT = 0.75  # inches
MOST_STEPS = 11  # a scale with more is drawn as a slider


def plot_predicted_vs_actual(
    path: Path, name: str, predicted: Array, actual: Array, users: NDArray[Any], scale: RatingScale
) -> None:
    """Plot predicted against actual ratings: a box per rating for stars, a density for sliders.

    Args:
        path: Of the PNG.
        name: Of the model.
        predicted: Predicted ratings, ``(n,)``.
        actual: The ratings, ``(n,)``.
        users: Whose ratings, ``(n,)``.
        scale: The range of ratings.

    Raises:
        DataError: A prediction is not a finite number.
    """
    result = agreement(name, predicted, actual, users)
    steps = np.unique(actual)
    stars = scale.resolution > 0 and len(steps) <= MOST_STEPS
    figure, (axes,) = new_figure(6.4 if stars else 7.4, 5.6)
    caption = (
        _boxes(axes, predicted, actual, steps, scale) if stars else _density(figure, axes, predicted, actual, scale)
    )
    ends = [scale.low, scale.high]
    axes.plot(ends, ends, color=COLOURS[1], linestyle="--", linewidth=1.8, label="predicted = actual")
    axes.legend(loc="upper left", framealpha=0.9, edgecolor="none")
    axes.set(
        xlabel=f"actual rating ({scale.low:g} to {scale.high:g})", ylabel=f"rating predicted by {short_name(name)}"
    )
    mean, low, high = (f"{number:.2f}" for number in result.srocc)
    counts = f"{len(actual):,} ratings of {count_of(len(np.unique(users)), 'person', 'people')}; {caption}"
    subtitle = (
        f"SROCC within a person, mean: {mean} [{low}, {high}] of {count_of(result.num_users, 'person', 'people')}"
    )
    set_titles(axes, "Predicted against actual ratings", f"{counts}\n{subtitle}")
    save_png(figure, path)


def plot_learning_curve(
    path: Path,
    counts: Sequence[int],
    curves: Mapping[str, Sequence[Score]],
    ceiling: float | None = None,
    metric: str = "SROCC",
) -> None:
    """Plot the agreement with newcomers against the number of their ratings that a model is given.

    Args:
        path: Of the PNG.
        counts: Numbers of ratings, rising, from 0.
        curves: By model, its agreement at each count: estimate, low and high end; NaN leaves a gap.
        ceiling: The noise ceiling, drawn dashed; None if it is not known.
        metric: Name of the metric.
    """
    figure, (axes,) = new_figure(7.2, 4.8)
    positions = np.arange(len(counts))  # evenly spaced: 0, 5, 10, 20, 50 would crowd on the left
    for number, (name, scores) in enumerate(curves.items()):
        middle, low, high = np.array(scores, dtype=np.float64).T
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        axes.fill_between(positions, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(positions, middle, color=colour, marker=mark, linewidth=2, markersize=6, label=short_name(name))
    if ceiling is not None:
        axes.axhline(ceiling, color=GREY, linestyle="--", linewidth=1.5, label=f"ceiling, {ceiling:.2f}")
    axes.set_xticks(positions, [str(count) for count in counts])
    axes.set(xlabel="ratings of the new person that the model has seen", ylabel=f"{metric} within a person, mean")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    legend_outside(axes)
    set_titles(axes, "Agreement with new people by number of their ratings", "bands: 95 % intervals over people")
    save_png(figure, path)


def plot_calibration(
    path: Path, levels: Array, coverage: Mapping[str, Array], histograms: Mapping[str, Array] | None = None
) -> None:
    """Plot actual against nominal coverage, and next to it PIT histograms.

    Args:
        path: Of the PNG.
        levels: Nominal coverage, rising, ``(m,)``.
        coverage: By model, actual coverage, ``(m,)``: means of ``calibration.coverage``.
        histograms: By model, ``calibration.pit_histogram``, ``(bins,)``; None leaves out the right half.
    """
    figure, parts = new_figure(10.4 if histograms else 5.6, 5.0, columns=2 if histograms else 1)
    left = parts[0]
    left.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1.2, label="calibrated")
    for number, (name, shares) in enumerate(coverage.items()):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        left.plot(
            100 * levels, 100 * shares, color=colour, marker=mark, linewidth=2, markersize=5, label=short_name(name)
        )
    left.text(97, 4, "below the line: overconfident", ha="right", color=GREY)
    left.set(xlabel="nominal coverage (% of ratings)", ylabel="actual coverage (% of ratings)")
    left.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    left.legend(loc="upper left", frameon=False)
    set_titles(left, "Coverage of predictive intervals", "central intervals of the predicted distribution")
    if histograms:
        _pit(parts[1], histograms, list(coverage))
    save_png(figure, path)


def _pit(axes: Axes, histograms: Mapping[str, Array], order: Sequence[str]) -> None:
    for name, shares in histograms.items():
        number = order.index(name) if name in order else len(order)
        edges = np.linspace(0, 100, len(shares) + 1)
        axes.stairs(100 * shares, edges, color=COLOURS[number % len(COLOURS)], linewidth=2, label=short_name(name))
        axes.axhline(100 / len(shares), color=GREY, linestyle="--", linewidth=1.2)
    axes.set(xlabel="percentile of the predicted distribution", ylabel="ratings (%)")
    highest = max(shares.max() for shares in histograms.values())
    axes.set(xlim=(0, 100), ylim=(0, 130 * highest))
    axes.legend(loc="upper center", frameon=False)
    set_titles(axes, "PIT histogram", "flat: calibrated; U: overconfident; hump: underconfident; slope: biased")


def _boxes(axes: Axes, predicted: Array, actual: Array, steps: Array, scale: RatingScale) -> str:
    parts = [predicted[actual == step] for step in steps]
    wide = 0.6 * scale.resolution
    style: dict[str, Any] = {"facecolor": COLOURS[5], "alpha": 0.6, "edgecolor": COLOURS[0]}
    axes.boxplot(
        parts,
        positions=steps,
        widths=wide,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops=style,
        medianprops={"color": "black", "linewidth": 2},
        whiskerprops={"color": COLOURS[0]},
        capprops={"color": COLOURS[0]},
    )
    for step, part in zip(steps, parts):
        axes.annotate(
            f"n = {len(part):,}", (step, 0), (0, 4), ("data", "axes fraction"), "offset points", ha="center", fontsize=8
        )
    axes.set_xticks(steps, [f"{step:g}" for step in steps])
    axes.set_xlim(steps[0] - scale.resolution, steps[-1] + scale.resolution)
    whiskers = np.array([np.quantile(part, [0.05, 0.95]) for part in parts])
    low, high = min(scale.low, whiskers.min()), max(scale.high, whiskers.max())
    axes.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    return "box: middle half, whiskers: 5 to 95 %"


def _density(figure: Figure, axes: Axes, predicted: Array, actual: Array, scale: RatingScale) -> str:
    low, high = min(scale.low, float(predicted.min())), max(scale.high, float(predicted.max()))
    area = (scale.low, scale.high, low, high)
    cells = axes.hexbin(
        actual, predicted, gridsize=28, extent=area, mincnt=1, bins="log", vmin=0.3, cmap="Blues", linewidths=0.1
    )  # from 0.3, so that a single rating is not white
    bar = figure.colorbar(cells, ax=axes, label="ratings in a cell", shrink=0.85, pad=0.02, format="{x:g}")
    bar.outline.set_visible(False)
    axes.set_xlim(scale.low, scale.high)
    axes.set_ylim(low, high + 0.12 * (high - low))
    bar.ax.set_ylim(1, None)
    return "darker: more"


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of a size in inches with room for titles, and its axes from left to right."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), dpi=150)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, 0.99 - TITLE_HEIGHT / height)))
    axes = list(np.ravel(figure.subplots(1, columns)))
    for part in axes:
        part.spines[["top", "right"]].set_visible(False)
    return figure, axes


def set_titles(axes: Axes, title: str, subtitle: str) -> None:
    """Write a title, and one or two lines of small print under it."""
    lines = subtitle.count("\n") + 1
    words = [
        axes.annotate(
            title, (0, 1), (0, 10 + 13 * lines), "axes fraction", "offset points", fontsize=12, weight="bold"
        ),
        axes.annotate(
            subtitle, (0, 1), (0, 8), "axes fraction", "offset points", fontsize=9, color=GREY, linespacing=1.3
        ),
    ]
    for text in words:
        text.set_in_layout(False)  # otherwise a long title would move colour bars and legends


def legend_outside(axes: Axes) -> None:
    """Put the legend to the right of the axes."""
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def short_name(name: str) -> str:
    """Shorten a name to ``NAME_LENGTH`` characters and escape its dollar signs for matplotlib."""
    return (name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…").replace("$", r"\$")


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. Title and small print are also in the file's description, for screen readers."""
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Description": words.replace("\n", "; ")})
    path.write_bytes(buffer.getvalue())
