"""Where people's tastes differ most, and a map of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pamela_rl.agreement.figures import COLOURS, GREY, MARKS, entitle, plain, save
from pamela_rl.agreement.measures import Array
from pamela_rl.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAIL = 150  # pixels
GAP = 8  # pixels between thumbnails
Box = tuple[float, float, float, float]  # left, bottom, width, height, shares of the figure
MAP: Box = (0.24, 0.225, 0.58, 0.54)
ENDS: tuple[tuple[str, int, bool, Box], ...] = (  # what is written above, which axis, its high end?, where
    ("liked more\non the left", 0, False, (0.015, 0.25, 0.115, 0.48)),
    ("liked more\non the right", 0, True, (0.86, 0.25, 0.115, 0.48)),
    ("liked more at the bottom", 1, False, (0.305, 0.015, 0.45, 0.105)),
    ("liked more at the top", 1, True, (0.305, 0.795, 0.45, 0.105)),
)
MOST_KINDS = 6  # of people that colours and marks can tell apart


@dataclass(frozen=True)
class PrincipalTastes:
    """The two directions in which people's predicted ratings differ most, apart from how high they rate on the whole.

    Attributes:
        people: How far each person departs from the mean person along each axis, ``(people, 2)``, in rating points:
            root mean square over the pictures.
        pictures: How much more of it people at the high end like each picture than the mean person, relative to the
            root mean square of all pictures, ``(pictures, 2)``.
        shares: Share of all differences between people that each axis shows, ``(2,)``.
    """

    people: Array
    pictures: Array
    shares: Array


def principal_tastes(predicted: Array) -> PrincipalTastes:
    """Find the axes from what a model predicts that everybody would rate every picture.

    So it is the same map for whatever numbers a model keeps of tastes. Each axis points to where its most extreme
    picture is liked, so that the signs are the same on every machine.

    Args:
        predicted: Expected ratings, ``(people, pictures)``.

    Raises:
        DataError: There are fewer than three people or pictures, or all people are predicted alike.
    """
    if min(predicted.shape) < 3:
        raise DataError(f"a map of tastes needs three people and three pictures; it was given {predicted.shape}.")
    level_free = predicted - predicted.mean(axis=1, keepdims=True)
    differences = level_free - level_free.mean(axis=0)
    left, sizes, right = np.linalg.svd(differences, full_matrices=False)
    if sizes[1] <= 1e-9 * max(1.0, float(np.abs(predicted).max())):
        raise DataError("all people are predicted to like the same pictures, so there is no map of their tastes.")
    root = predicted.shape[1] ** 0.5
    people, pictures = left[:, :2] * sizes[:2] / root, right[:2].T * root
    signs = np.sign(pictures[np.abs(pictures).argmax(axis=0), [0, 1]])
    return PrincipalTastes(people * signs, pictures * signs, (sizes**2 / (sizes**2).sum())[:2])


def map_of_tastes(
    path: Path,
    predicted: Array,
    thumbnail: Callable[[int], Image.Image],
    colour: Array | Sequence[str] | None = None,
    colour_label: str = "",
    num_thumbnails: int = 3,
) -> None:
    """Draw people as points on the two axes, with the pictures at the ends of each that its people like most.

    Args:
        path: Of the PNG.
        predicted: What each person would rate each picture, ``(people, pictures)``.
        thumbnail: Opens the picture of a column; only those at the ends are asked for.
        colour: A number a person (bias, age) or a kind a person (gender); beyond six kinds the rarest are "other".
        colour_label: What the colour means, with its unit.
        num_thumbnails: At each end.

    Raises:
        DataError: There are too few people or pictures, or all people are predicted alike.
    """
    tastes = principal_tastes(predicted)
    figure = _empty_figure()
    axes = figure.add_axes(MAP)
    _people(axes, tastes.people, colour, colour_label)
    reach = 1.12 * np.abs(tastes.people).max(axis=0)
    axes.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
    for axis, name in enumerate(("x", "y")):
        share = f"axis {axis + 1}: {100 * tastes.shares[axis]:.0f} % of the differences"
        axes.set(**{f"{name}label": f"{share}\n(rating points, RMS over pictures)"})
    for words, axis, high, box in ENDS:
        order = tastes.pictures[:, axis].argsort()
        ends = order[::-1] if high else order
        _pictures(figure, words, box, _strip([thumbnail(int(place)) for place in ends[:num_thumbnails]], axis == 0))
    title = figure.add_axes((0.015, 0.93, 0.9, 0.01), frameon=False, xticks=[], yticks=[])
    under = (
        f"{len(predicted):,} people as points; beside each end of an axis the pictures liked more there than elsewhere"
    )
    entitle(title, "Whose taste is like whose, and what sets them apart", under)
    save(figure, path)


def _empty_figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(8.6, 8.2), dpi=150)


def _people(axes: Axes, places: Array, colour: Array | Sequence[str] | None, label: str) -> None:
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    if colour is None:
        axes.scatter(places[:, 0], places[:, 1], color=COLOURS[0], edgecolors="white", linewidths=0.6, s=42)
        return
    values = np.asarray(colour)
    if values.dtype.kind in "fiu":
        points = axes.scatter(
            places[:, 0], places[:, 1], c=values, cmap="viridis", edgecolors="white", linewidths=0.6, s=42
        )
        place = axes.inset_axes((0.98, -0.27, 0.28, 0.025))
        axes.figure.colorbar(points, cax=place, label=label, orientation="horizontal")
        return
    for number, (kind, members) in enumerate(_kinds(values.astype(str))):
        colour_of, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        name = f"{plain(kind)} ({int(members.sum())})"
        axes.scatter(
            places[members, 0],
            places[members, 1],
            color=colour_of,
            marker=mark,
            edgecolors="white",
            linewidths=0.6,
            s=46,
            label=name,
        )
    axes.legend(title=label, loc="lower left", bbox_to_anchor=(-0.4, -0.41), frameon=False, fontsize=8)


def _kinds(values: NDArray[np.str_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the most frequent kinds first; what is beyond ``MOST_KINDS`` is one kind."""
    names, counts = np.unique(values, return_counts=True)
    order = names[(-counts).argsort(kind="stable")]
    if len(order) <= MOST_KINDS:
        return [(str(name), values == name) for name in order]
    kept = order[: MOST_KINDS - 1]
    return [*((str(name), values == name) for name in kept), ("other", ~np.isin(values, kept))]


def _strip(pictures: Sequence[Image.Image], upright: bool) -> Image.Image:
    """Paste pictures under or beside one another, the most telling first."""
    step = THUMBNAIL + GAP
    length = step * len(pictures) - GAP
    sheet = Image.new("RGB", (THUMBNAIL, length) if upright else (length, THUMBNAIL), "white")
    for number, picture in enumerate(pictures):
        square = ImageOps.pad(picture.convert("RGB"), (THUMBNAIL, THUMBNAIL), color="white")
        sheet.paste(square, (0, number * step) if upright else (number * step, 0))
    return sheet


def _pictures(figure: Figure, words: str, box: Box, strip: Image.Image) -> None:
    place = figure.add_axes(box, frameon=False, xticks=[], yticks=[])
    place.imshow(np.asarray(strip))
    place.set_title(words, fontsize=9, color=GREY)
