"""Scenes of 64 x 64 pixels, drawn by code: a subject and five attributes that a prompt may name or not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64
_SUPERSAMPLING = 4  # drawn four times as large, then averaged: crisp edges without stairs
_CANVAS = SIZE * _SUPERSAMPLING

SUBJECTS = ("tree", "house", "boat", "mountain", "flower", "lighthouse", "balloon", "cactus")
LIGHTINGS = ("noon", "sunset", "night", "mist")
PALETTES = ("vivid", "pastel", "earthy")
VIEWPOINTS = ("wide", "close")
ANGLES = ("low", "high")
PLACEMENTS = ("left", "centre", "right")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "lighting": LIGHTINGS,
    "palette": PALETTES,
    "viewpoint": VIEWPOINTS,
    "angle": ANGLES,
    "placement": PLACEMENTS,
}

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """The content of one picture; its jitter (positions, sun) comes from a random generator."""

    subject: str
    lighting: str
    palette: str
    viewpoint: str
    angle: str
    placement: str

    def attribute(self, name: str) -> str:
        """Return the value of ``subject`` or of one of the keys of ``ATTRIBUTES``."""
        return str(getattr(self, name))


ALL_SCENES: tuple[Scene, ...] = tuple(Scene(*values) for values in itertools.product(SUBJECTS, *ATTRIBUTES.values()))

# sky at the top, sky at the horizon, light that falls on things, sun or moon
_LIGHT: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "noon": ((0.36, 0.66, 0.98), (0.80, 0.93, 1.00), (1.00, 1.00, 1.00), (1.00, 0.90, 0.35)),
    "sunset": ((0.36, 0.14, 0.48), (1.00, 0.55, 0.24), (0.92, 0.66, 0.56), (1.00, 0.86, 0.42)),
    "night": ((0.02, 0.03, 0.16), (0.09, 0.13, 0.34), (0.40, 0.45, 0.66), (0.97, 0.96, 0.86)),
    "mist": ((0.78, 0.79, 0.81), (0.90, 0.90, 0.90), (0.86, 0.87, 0.88), (0.96, 0.95, 0.92)),
}
_GRASS: Colour = (0.30, 0.64, 0.22)
_SAND: Colour = (0.88, 0.72, 0.42)
_SEA: Colour = (0.13, 0.42, 0.78)
_GROUND = {"boat": _SEA, "lighthouse": _SEA, "cactus": _SAND}
_HORIZON = {"low": 0.80, "high": 0.45}  # share of the height; a camera near the ground sees much sky
_X = {"left": 0.24, "centre": 0.50, "right": 0.76}
_SCALE = {"wide": 0.40, "close": 0.74}  # height of the subject, share of the picture's


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def _paint(colour: Colour, palette: str, light: Colour) -> Colour:
    """Apply palette and light to an object's own colour."""
    grey = 0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    if palette == "pastel":
        colour = _mix(_mix(colour, (grey, grey, grey), 0.30), (1.0, 0.96, 0.98), 0.50)
    elif palette == "earthy":
        colour = _mix(_mix(colour, (grey, grey, grey), 0.45), (0.52, 0.36, 0.20), 0.40)
    return (colour[0] * light[0], colour[1] * light[1], colour[2] * light[2])


def _paint_sky(colour: Colour, palette: str) -> Colour:
    grey = 0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    if palette == "pastel":
        return _mix(_mix(colour, (grey, grey, grey), 0.15), (1.0, 0.95, 0.98), 0.30)
    if palette == "earthy":
        return _mix(_mix(colour, (grey, grey, grey), 0.45), (0.60, 0.44, 0.26), 0.28)
    return colour


def _rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, round(255 * channel))) for channel in colour)
    return red, green, blue


class _Brush:
    """Draws in the subject's own coordinates: the foot at (0, 0), x to the right, y up, height about 1."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, scale: float, paint: Callable[[Colour], Colour]):
        self._draw, self._x, self._y, self._scale, self._paint = draw, x, y, scale, paint

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (self._x + x * self._scale) * _CANVAS, (self._y - y * self._scale) * _CANVAS

    def polygon(self, colour: Colour, *points: tuple[float, float]) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._at(*point) for point in points], fill=_rgb(self._paint(colour)))

    def box(self, colour: Colour, left: float, bottom: float, right: float, top: float) -> None:
        """Fill an upright rectangle."""
        self.polygon(colour, (left, bottom), (right, bottom), (right, top), (left, top))

    def disc(self, colour: Colour, x: float, y: float, radius: float, height: float | None = None) -> None:
        """Fill a disc, or an ellipse of another half height."""
        tall = radius if height is None else height
        (left, top), (right, bottom) = self._at(x - radius, y + tall), self._at(x + radius, y - tall)
        self._draw.ellipse((left, top, right, bottom), fill=_rgb(self._paint(colour)))


_TRUNK: Colour = (0.45, 0.27, 0.14)
_WHITE: Colour = (0.97, 0.96, 0.93)
_RED: Colour = (0.86, 0.17, 0.14)
_DARK: Colour = (0.26, 0.15, 0.12)


def _tree(brush: _Brush) -> None:
    brush.box(_TRUNK, -0.07, 0.0, 0.07, 0.45)
    leaves: Colour = (0.10, 0.50, 0.20)
    for x, y, radius in ((-0.19, 0.52, 0.22), (0.19, 0.52, 0.22), (0.0, 0.73, 0.27)):
        brush.disc(leaves, x, y, radius)


def _house(brush: _Brush) -> None:
    brush.box((0.96, 0.82, 0.58), -0.38, 0.0, 0.38, 0.55)
    brush.polygon(_RED, (-0.48, 0.53), (0.48, 0.53), (0.0, 1.0))
    brush.box(_DARK, -0.27, 0.0, -0.05, 0.36)
    brush.box((0.45, 0.75, 0.95), 0.07, 0.20, 0.28, 0.40)


def _boat(brush: _Brush) -> None:
    brush.box(_TRUNK, -0.06, 0.15, 0.0, 1.0)
    brush.polygon(_WHITE, (0.04, 0.26), (0.46, 0.26), (0.04, 0.98))
    brush.polygon((0.95, 0.75, 0.20), (-0.10, 0.26), (-0.38, 0.26), (-0.10, 0.85))
    brush.polygon((0.70, 0.24, 0.12), (-0.52, 0.20), (0.54, 0.20), (0.34, -0.08), (-0.34, -0.08))


def _mountain(brush: _Brush) -> None:
    brush.polygon((0.45, 0.43, 0.52), (-0.75, 0.0), (0.75, 0.0), (0.0, 1.0))
    brush.polygon(_WHITE, (-0.24, 0.68), (-0.08, 0.60), (0.06, 0.70), (0.24, 0.68), (0.0, 1.0))


def _flower(brush: _Brush) -> None:
    brush.box((0.16, 0.50, 0.16), -0.04, 0.0, 0.04, 0.60)
    brush.polygon((0.16, 0.50, 0.16), (0.0, 0.10), (0.24, 0.32), (0.08, 0.30))
    for petal in range(6):
        turn = petal * math.pi / 3
        brush.disc((0.93, 0.22, 0.56), 0.20 * math.cos(turn), 0.70 + 0.20 * math.sin(turn), 0.145)
    brush.disc((0.98, 0.82, 0.20), 0.0, 0.70, 0.125)


def _lighthouse(brush: _Brush) -> None:
    brush.polygon((0.40, 0.36, 0.34), (-0.42, -0.04), (0.42, -0.04), (0.26, 0.10), (-0.26, 0.10))
    brush.polygon(_WHITE, (-0.19, 0.08), (0.19, 0.08), (0.12, 0.76), (-0.12, 0.76))
    brush.polygon(_RED, (-0.175, 0.24), (0.175, 0.24), (0.155, 0.42), (-0.155, 0.42))
    brush.box((1.0, 0.88, 0.35), -0.10, 0.76, 0.10, 0.88)
    brush.polygon(_RED, (-0.15, 0.87), (0.15, 0.87), (0.0, 1.02))


def _balloon(brush: _Brush) -> None:
    brush.box(_TRUNK, -0.10, 0.10, 0.10, 0.24)
    brush.polygon((0.80, 0.62, 0.20), (-0.10, 0.24), (0.10, 0.24), (0.24, 0.46), (-0.24, 0.46))
    brush.disc(_RED, 0.0, 0.70, 0.36)
    brush.disc((0.98, 0.80, 0.25), 0.0, 0.70, 0.17, 0.36)


def _cactus(brush: _Brush) -> None:
    green: Colour = (0.16, 0.52, 0.30)
    brush.box(green, -0.11, 0.0, 0.11, 0.88)
    brush.disc(green, 0.0, 0.88, 0.11)
    for side, low, high in ((-1.0, 0.34, 0.66), (1.0, 0.46, 0.78)):
        left, right = sorted((side * 0.11, side * 0.36))
        brush.box(green, left, low, right, low + 0.14)
        left, right = sorted((side * 0.24, side * 0.38))
        brush.box(green, left, low, right, high)
        brush.disc(green, side * 0.31, high, 0.07)


_DRAW: dict[str, Callable[[_Brush], None]] = {
    "tree": _tree,
    "house": _house,
    "boat": _boat,
    "mountain": _mountain,
    "flower": _flower,
    "lighthouse": _lighthouse,
    "balloon": _balloon,
    "cactus": _cactus,
}


def _sky(scene: Scene, horizon: float) -> Image.Image:
    top, bottom = (np.array(_paint_sky(colour, scene.palette)) for colour in _LIGHT[scene.lighting][:2])
    share = np.clip(np.arange(_CANVAS) / (horizon * _CANVAS), 0.0, 1.0)[:, None]
    column = np.rint(255 * (top + (bottom - top) * share)).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None], (_CANVAS, _CANVAS, 3))))


def _ball(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: Colour) -> None:
    box = tuple(_CANVAS * v for v in (x - radius, y - radius, x + radius, y + radius))
    draw.ellipse((box[0], box[1], box[2], box[3]), fill=_rgb(colour))


def draw_scene(scene: Scene, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one scene; the same scene and generator state give the same picture.

    Args:
        scene: What to show.
        generator: Where the jitter of positions and of the sun comes from.

    Returns:
        An RGB picture, ``(64, 64, 3)``.
    """
    _, _, light, sun = _LIGHT[scene.lighting]
    horizon = _HORIZON[scene.angle] + generator.uniform(-0.02, 0.02)
    image = _sky(scene, horizon)
    draw = ImageDraw.Draw(image)

    sun_x = generator.choice([0.16, 0.50, 0.84]) + generator.uniform(-0.03, 0.03)
    if scene.lighting == "night":
        for star_x, star_y in ((0.10, 0.08), (0.32, 0.20), (0.66, 0.07), (0.90, 0.24), (0.42, 0.05), (0.72, 0.30)):
            _ball(draw, star_x, star_y, 0.012, (0.92, 0.92, 0.98))
    if scene.lighting != "mist":
        sun_y = horizon - 0.07 if scene.lighting == "sunset" else 0.14
        _ball(draw, sun_x, sun_y, 0.085, _paint_sky(sun, scene.palette))

    ground = _paint(_GROUND.get(scene.subject, _GRASS), scene.palette, light)
    draw.rectangle((0, horizon * _CANVAS, _CANVAS, _CANVAS), fill=_rgb(ground))

    scale = _SCALE[scene.viewpoint] * generator.uniform(0.96, 1.04)
    x = _X[scene.placement] + generator.uniform(-0.025, 0.025)
    wide = scene.viewpoint == "wide"
    foot = min(horizon + 0.08, 0.95) if wide else max(horizon + 0.10, 0.86)  # what is near stands lower
    if scene.subject == "mountain":
        foot = horizon if wide else max(horizon, 0.80)
    if scene.subject == "balloon":  # floats: its basket hangs above the horizon
        foot = max(scale * 1.08, horizon - 0.18)
    haze = _LIGHT["mist"][1]

    def paint(colour: Colour) -> Colour:
        painted = _paint(colour, scene.palette, light)
        return _mix(painted, haze, 0.28) if scene.lighting == "mist" else painted

    _DRAW[scene.subject](_Brush(draw, x, foot, scale, paint))
    reduced = image.resize((SIZE, SIZE), Image.Resampling.BOX)
    return np.asarray(reduced, dtype=np.uint8)


def draw_scenes(scenes: Sequence[Scene], seed: int) -> NDArray[np.uint8]:
    """Draw many scenes; picture ``i`` depends on ``(seed, i)`` alone.

    Returns:
        RGB pictures, ``(n, 64, 64, 3)``.
    """
    images = np.empty((len(scenes), SIZE, SIZE, 3), dtype=np.uint8)
    for index, scene in enumerate(scenes):
        images[index] = draw_scene(scene, np.random.default_rng((seed, index)))
    return images


def random_scenes(count: int, seed: int) -> list[Scene]:
    """Draw ``count`` scenes uniformly from all combinations of subject and attributes."""
    chosen = np.random.default_rng(seed).integers(len(ALL_SCENES), size=count)
    return [ALL_SCENES[int(index)] for index in chosen]


def plain_scenes(scenes: Sequence[Scene]) -> list[int]:
    """List the rows of scenes at noon, in vivid colours, seen from below.

    Training starts on these. Where light and colour do not vary, a model learns placement and viewpoint; trained on
    all scenes from the start, it learned these words late or never.
    """
    return [
        row
        for row, scene in enumerate(scenes)
        if (scene.lighting, scene.palette, scene.angle) == ("noon", "vivid", "low")
    ]
