"""An on-disk cache of images from services, by request, so that no request is paid twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from pamela_rl.data.decoding import decode, decode_errors
from pamela_rl.errors import DataError


class ImageCache:
    """A folder with a PNG file for every request, and the request as JSON beside it.

    Several processes may share it. A file that does not decode counts as absent.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, request: Mapping[str, object]) -> Image.Image | None:
        """Return the image of a request in RGB, or None."""
        path = self._path(request)
        if not path.is_file():
            return None
        try:
            with decode_errors(str(path)), path.open("rb") as stream:
                return decode(stream)
        except DataError:
            return None

    def put(self, request: Mapping[str, object], image: Image.Image) -> None:
        """Store an image; its request is written first, so that no image is without one."""
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        path = self._path(request)
        _write(path.with_suffix(".json"), json.dumps(request, indent=2, sort_keys=True).encode())
        _write(path, buffer.getvalue())

    def _path(self, request: Mapping[str, object]) -> Path:
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest}.png"


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically, under a unique temporary name, since other processes may write the same file."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
