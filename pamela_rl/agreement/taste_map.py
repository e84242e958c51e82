"""Principal components of the users' tastes, and a map of the users on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pamela_rl.agreement.figures import COLOURS, GREY, MARKS, save_png, set_titles, short_name
from pamela_rl.agreement.measures import Array
from pamela_rl.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAIL = 150  # pixels
GAP = 8  # pixels between thumbnails
Box = tuple[float, float, float, float]  # left, bottom, width, height, shares of the figure
MAP: Box = (0.24, 0.225, 0.58, 0.54)
ENDS: tuple[tuple[str, int, bool, Box], ...] = (  # title, axis, high end or low end, position
    ("liked more\non the left", 0, False, (0.015, 0.25, 0.115, 0.48)),
    ("liked more\non the right", 0, True, (0.86, 0.25, 0.115, 0.48)),
    ("liked more at the bottom", 1, False, (0.305, 0.015, 0.45, 0.105)),
    ("liked more at the top", 1, True, (0.305, 0.795, 0.45, 0.105)),
)
MAX_CATEGORIES = 6  # with distinct colours and markers


@dataclass(frozen=True)
class PrincipalTastes:
    """The first two principal components of the users' predicted ratings, without each user's mean.

    Attributes:
        users: Score of each user on each component, ``(users, 2)``, in rating points: root mean square over the
            pictures of the difference from the mean user.
        images: Loading of each image, ``(images, 2)``, with a root mean square of 1.
        explained_variance_ratio: Share of the variance between users that each component explains, ``(2,)``.
    """

    users: Array
    images: Array
    explained_variance_ratio: Array


def differ(predicted: Array) -> bool:
    """Return whether users are predicted to like different images, in two dimensions at least.

    Args:
        predicted: Expected ratings, ``(users, images)``.
    """
    sizes = np.linalg.svd(_differences(predicted), compute_uv=False)
    return bool(sizes[1] > 1e-9 * max(1.0, float(np.abs(predicted).max())))


def _differences(predicted: Array) -> Array:
    level_free = predicted - predicted.mean(axis=1, keepdims=True)
    return np.asarray(level_free - level_free.mean(axis=0))


def principal_tastes(predicted: Array) -> PrincipalTastes:
    """Compute the components from the predicted ratings of all pictures by all users.

    The map therefore does not depend on how a model parametrises tastes. The sign of each component is chosen so that
    its largest loading is positive, the same on every machine.

    Args:
        predicted: Expected ratings, ``(users, images)``.

    Raises:
        DataError: There are fewer than three users or pictures, or the predictions are the same for all users.
    """
    if min(predicted.shape) < 3:
        raise DataError(f"a map of tastes needs three people and three pictures; it was given {predicted.shape}.")
    left, sizes, right = np.linalg.svd(_differences(predicted), full_matrices=False)
    if not differ(predicted):
        raise DataError("all people are predicted to like the same pictures, so there is no map of their tastes.")
    root = predicted.shape[1] ** 0.5
    users, images = left[:, :2] * sizes[:2] / root, right[:2].T * root
    signs = np.sign(images[np.abs(images).argmax(axis=0), [0, 1]])
    return PrincipalTastes(users * signs, images * signs, (sizes**2 / (sizes**2).sum())[:2])


def plot_taste_map(
    path: Path,
    predicted: Array,
    thumbnail: Callable[[int], Image.Image],
    colour: Array | Sequence[str] | None = None,
    colour_label: str = "",
    num_thumbnails: int = 3,
) -> None:
    """Plot users as points on the two components, with the pictures of the largest loadings at the ends of the axes.

    Args:
        path: Of the PNG.
        predicted: Expected rating of each image by each user, ``(users, images)``.
        thumbnail: Opens the image of a column; only those at the ends are opened.
        colour: A number per user (bias, age) or a category per user (gender); beyond six categories the rarest are
            "other".
        colour_label: Meaning of the colour, with its unit.
        num_thumbnails: Number of pictures at each end.

    Raises:
        DataError: There are too few users or pictures, or the predictions are the same for all users.
    """
    tastes = principal_tastes(predicted)
    figure = _empty_figure()
    axes = figure.add_axes(MAP)
    _draw_users(axes, tastes.users, colour, colour_label)
    reach = 1.12 * np.abs(tastes.users).max(axis=0)
    axes.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
    for axis, name in enumerate(("x", "y")):
        share = f"axis {axis + 1}: {100 * tastes.explained_variance_ratio[axis]:.0f} % of the differences"
        axes.set(**{f"{name}label": f"{share}\n(rating points, RMS over pictures)"})
    for words, axis, high, box in ENDS:
        order = tastes.images[:, axis].argsort()
        ends = order[::-1] if high else order
        _draw_images(figure, words, box, _strip([thumbnail(int(place)) for place in ends[:num_thumbnails]], axis == 0))
    title = figure.add_axes((0.015, 0.93, 0.9, 0.01), frameon=False, xticks=[], yticks=[])
    subtitle = (
        f"{len(predicted):,} people as points; beside each end of an axis the pictures liked more there than elsewhere"
    )
    set_titles(title, "Map of tastes", subtitle)
    save_png(figure, path)


def _empty_figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(8.6, 8.2), dpi=150)


def _draw_users(axes: Axes, positions: Array, colour: Array | Sequence[str] | None, label: str) -> None:
    axes.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    if colour is None:
        axes.scatter(positions[:, 0], positions[:, 1], color=COLOURS[0], edgecolors="white", linewidths=0.6, s=42)
        return
    values = np.asarray(colour)
    if values.dtype.kind in "fiu":
        points = axes.scatter(
            positions[:, 0], positions[:, 1], c=values, cmap="viridis", edgecolors="white", linewidths=0.6, s=42
        )
        place = axes.inset_axes((0.98, -0.27, 0.28, 0.025))
        axes.figure.colorbar(points, cax=place, label=label, orientation="horizontal")
        return
    for number, (category, members) in enumerate(_categories(values.astype(str))):
        colour_of, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        name = f"{short_name(category)} ({int(members.sum())})"
        axes.scatter(
            positions[members, 0],
            positions[members, 1],
            color=colour_of,
            marker=mark,
            edgecolors="white",
            linewidths=0.6,
            s=46,
            label=name,
        )
    axes.legend(title=label, loc="lower left", bbox_to_anchor=(-0.4, -0.41), frameon=False, fontsize=8)


def _categories(values: NDArray[np.str_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return the categories and their masks, most frequent first; beyond ``MAX_CATEGORIES`` they are "other"."""
    names, counts = np.unique(values, return_counts=True)
    order = names[(-counts).argsort(kind="stable")]
    if len(order) <= MAX_CATEGORIES:
        return [(str(name), values == name) for name in order]
    kept = order[: MAX_CATEGORIES - 1]
    return [*((str(name), values == name) for name in kept), ("other", ~np.isin(values, kept))]


def _strip(images: Sequence[Image.Image], vertical: bool) -> Image.Image:
    """Paste pictures below or beside each other, in their order."""
    step = THUMBNAIL + GAP
    length = step * len(images) - GAP
    sheet = Image.new("RGB", (THUMBNAIL, length) if vertical else (length, THUMBNAIL), "white")
    for number, image in enumerate(images):
        square = ImageOps.pad(image.convert("RGB"), (THUMBNAIL, THUMBNAIL), color="white")
        sheet.paste(square, (0, number * step) if vertical else (number * step, 0))
    return sheet


def _draw_images(figure: Figure, words: str, box: Box, strip: Image.Image) -> None:
    place = figure.add_axes(box, frameon=False, xticks=[], yticks=[])
    place.imshow(np.asarray(strip))
    place.set_title(words, fontsize=9, color=GREY)
