"""A picture as it is kept: a PNG of its pixels and nothing else, and a small JPEG."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

SMALL = 256  # longest side of a small picture, in pixels


@dataclass(frozen=True)
class Prepared:
    """A picture, encoded.

    Attributes:
        png: Its pixels and nothing else.
        small: A JPEG of at most ``SMALL`` pixels a side.
        width: In pixels.
        height: In pixels.
        digest: SHA-256 of size and pixels, in hex.
    """

    png: bytes
    small: bytes
    width: int
    height: int
    digest: str

    @classmethod
    def from_parts(cls, head: dict[str, Any], encoded: bytes) -> Prepared:
        """Put together what :meth:`parts` took apart."""
        cut = len(encoded) - head["small"]
        return cls(encoded[:cut], encoded[cut:], head["width"], head["height"], head["digest"])

    def parts(self) -> tuple[dict[str, Any], bytes]:
        """Return it as a few words, which are JSON, and bytes, for another process."""
        head = {"width": self.width, "height": self.height, "digest": self.digest, "small": len(self.small)}
        return head, self.png + self.small


def prepare(image: Image.Image, longest_side: int | None = None) -> Prepared:
    """Encode a picture, made smaller where it is larger than ``longest_side``."""
    image = image.convert("RGB")
    if longest_side is not None and max(image.size) > longest_side:
        image = _within(image, longest_side)
    pixels = f"{image.width} {image.height} ".encode() + image.tobytes()
    clean = Image.frombytes("RGB", image.size, image.tobytes())  # what came with the file stays behind
    small = _within(clean, SMALL) if max(clean.size) > SMALL else clean
    return Prepared(
        _encoded(clean, "PNG", compress_level=4),
        _encoded(small, "JPEG", quality=88),
        *clean.size,
        hashlib.sha256(pixels).hexdigest(),
    )


def _within(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, kind: str, **how: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()
