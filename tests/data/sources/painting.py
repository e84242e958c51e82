"""Pictures of one colour, and archives of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 30, 40), "green": (30, 180, 60), "blue": (20, 40, 210)}


def paint(file: Path, colour: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), COLOURS[colour]).save(file)


def colour_of(image: Image.Image) -> str:
    """The colour it was painted in, JPEG's rounding allowed for."""
    assert image.mode == "RGB"
    middle = np.asarray(image, dtype=int).mean(axis=(0, 1))
    return min(COLOURS, key=lambda name: float(np.abs(middle - COLOURS[name]).sum()))


def zipped(folder: Path, archive: Path, inside: str = "") -> Path:
    """Put a folder into a zip, its contents under ``inside``."""
    with zipfile.ZipFile(archive, "w") as writer:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                writer.write(file, inside + file.relative_to(folder).as_posix())
    return archive
