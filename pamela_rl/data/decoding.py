"""Decoding of images of any kind to RGB, with their brightness, rotation and transparency as they are shown."""

from __future__ import annotations

import importlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from pamela_rl.data.foreign_files import RAW, describe
from pamela_rl.errors import DataError

# image formats that are accepted; for a PostScript file Pillow would start Ghostscript
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM")
MAX_PIXELS = 150_000_000  # of one image: 450 MB as RGB

# zipfile raises RuntimeError for encrypted members and NotImplementedError for unknown compression
READ_FAILURES = (OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)

SUB_FILE_TYPE, BITS_PER_SAMPLE, SAMPLE_FORMAT, DNG_VERSION = 254, 258, 339, 50706  # tags of TIFF


def decode(stream: IO[bytes], formats: tuple[str, ...] | None = None, max_pixels: int | None = None) -> Image.Image:
    """Decode to RGB, rotated by the EXIF tag and on white where it is transparent, as browsers show it.

    Of an animation, the first frame. HEIC is decoded if the package pillow-heif is installed. Grey images of more than
    8 bits keep their brightness:

    - 16 bits: 65535 is white;
    - 32-bit integers, and floats that are whole numbers: white is the smallest of 1, 255 and 65535 that no value exceeds;
    - other floats: 1 is white if no value exceeds it;
    - values below 0 or above all of these: the lowest value, or 0 if none is negative, is black, and the highest white.
      Values that are not finite are black.

    Args:
        stream: The encoded image; it can be rewound.
        formats: Pillow's names of those that are accepted; None is all of ``FORMATS``.
        max_pixels: More are refused; None is ``MAX_PIXELS``.

    Raises:
        OSError: It is no image that can be decoded; says what it is instead, where that is known.
        ValueError: It has too many pixels, or is a raw file of a camera.
    """
    try:
        opened = Image.open(stream, formats=formats or _formats())
    except UnidentifiedImageError as error:
        stream.seek(0)
        kind = describe(stream.read(512))
        raise UnidentifiedImageError(f"it is {kind}" if kind else "it is no image that Pillow knows") from error
    with opened:
        most = max_pixels or MAX_PIXELS
        if opened.width * opened.height > most:
            raise ValueError(
                f"it has {opened.width} x {opened.height} pixels, more than {most / 10**6:g} million; shrink it"
            )
        tags = opened.tag_v2 if isinstance(opened, TiffImagePlugin.TiffImageFile) else {}
        if DNG_VERSION in tags or int(tags.get(SUB_FILE_TYPE, 0)) & 1:  # the first image is a thumbnail
            raise ValueError(f"it is {RAW}")
        image = ImageOps.exif_transpose(opened)
        if image.mode[0] in "IF":
            return _grey(image, tags).convert("RGB")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


@contextmanager
def read_errors(where: str) -> Iterator[None]:
    """Turn errors of the file system and of zipfile into a ``DataError``.

    Raises:
        DataError: Names the file.
    """
    try:
        yield
    except READ_FAILURES as error:
        raise DataError(f"cannot read {where} ({error}); correct the path or replace the file.") from error


@contextmanager
def decode_errors(where: str) -> Iterator[None]:
    """Turn errors of Pillow and zipfile into a ``DataError``.

    Raises:
        DataError: Names the image.
    """
    try:
        yield
    except (
        *READ_FAILURES,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:  # a broken PNG: SyntaxError
        raise DataError(f"the image {where} cannot be opened ({error}); replace or remove it.") from error


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are accepted, with HEIC if its package is installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return FORMATS
    return (*FORMATS, "HEIF")


def _grey(image: Image.Image, tags: Any) -> Image.Image:
    """Return an image of 16 or 32 bits per pixel with 8 bits."""
    values: NDArray[Any] = np.asarray(image)
    if image.mode == "I" and tags.get(SAMPLE_FORMAT, (0,))[0] == 1:  # unsigned; Pillow reads the bits as signed
        values = values.view(np.uint32)
    values = values.astype(np.float32)
    low, high = _range(values, image.mode, tags)
    scaled = np.clip(np.nan_to_num(values, nan=low, posinf=low, neginf=low) - low, 0, high - low) / (high - low)
    grey = np.rint(scaled * 255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _range(values: NDArray[np.float32], mode: str, tags: Any) -> tuple[float, float]:
    """Return the values of black and white."""
    if mode.startswith("I;16"):
        return 0.0, 2.0 ** min(int(tags.get(BITS_PER_SAMPLE, (16,))[0]), 16) - 1
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    whole = mode == "I" or bool((finite == np.rint(finite)).all())
    for white in (1.0, 255.0, 65535.0) if whole else (1.0,):
        if low >= 0 and high <= white:
            return 0.0, white
    low = min(low, 0.0)
    return low, high if high > low else low + 1
