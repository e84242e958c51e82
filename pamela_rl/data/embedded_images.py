"""Stores of images that lie inside a file of ratings, by id, rather than in files of their own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import threading
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow.parquet as pq
from PIL import Image

from pamela_rl.data.decoding import decode, decode_errors
from pamela_rl.errors import DataError

KEPT_ROW_GROUPS = 2  # of each store of Parquet files: images are read in the order of the rows

Location = TypeVar("Location")


class EmbeddedImages(ABC, Generic[Location]):
    """Images by id, each at a location inside a file; an ``ImageStore``.

    Args:
        source: What holds them, for messages.
    """

    def __init__(self, source: str):
        self.source = source
        self._locations: dict[str, Location] = {}

    def __str__(self) -> str:
        return self.source

    @abstractmethod
    def encoded(self, location: Location) -> bytes:
        """Return the encoded bytes at a location.

        Raises:
            OSError: They cannot be read.
            ValueError: They are damaged.
        """

    def put(self, image: str, location: Location) -> None:
        """Register an image. The first location of an id counts."""
        self._locations.setdefault(image, location)

    def open(self, image: str) -> Image.Image:
        """Decode an image to RGB, as ``ImageStore.open``."""
        content = self._read(image)
        with decode_errors(self.describe(image)):
            return decode(io.BytesIO(content))

    def digest(self, image: str) -> str:
        """Hash the image's encoded bytes, as ``ImageStore.digest``."""
        return hashlib.sha256(self._read(image)).hexdigest()

    def missing_reason(self, image: str) -> str | None:
        """Return why the image is not available, or None, as ``ImageStore.missing_reason``."""
        return None if image in self._locations else f"no row of {self.source} holds this image; remove the row"

    def _read(self, image: str) -> bytes:
        if missing_reason := self.missing_reason(image):
            raise DataError(f"cannot open the image {image!r}: {missing_reason}.")
        with decode_errors(self.describe(image)):
            return self.encoded(self._locations[image])

    def describe(self, image: str) -> str:
        """Return where an image is, for messages."""
        return f"{image!r} in {self.source}"


class InlineImages(EmbeddedImages[str]):
    """Images that are written as ``data:`` addresses into a text file."""

    def put_by_digest(self, address: str) -> str:
        """Register an image and return its id, a digest of its address."""
        image = hashlib.sha256(address.encode()).hexdigest()[:32]
        self.put(image, address)
        return image

    def encoded(self, location: str) -> bytes:
        """Return the bytes of a ``data:`` address in base64."""
        head, _, content = location.partition(",")
        if not head.endswith(";base64"):
            raise ValueError(f"it is written as {head[:40]!r}, and only base64 is read")
        try:
            return base64.b64decode(content, validate=True)
        except binascii.Error as error:
            raise ValueError(f"its base64 is damaged: {error}") from error


class ParquetImages(EmbeddedImages[tuple[Path, str, int]]):
    """Images in columns of Parquet files, at (file, column, row); few row groups are kept in memory."""

    def __init__(self, source: str):
        super().__init__(source)
        self._starts: dict[Path, list[int]] = {}  # first row of each row group
        self._kept: OrderedDict[tuple[Path, str, int], list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_kept", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _kept=OrderedDict(), _lock=threading.Lock())

    def put_column(self, file: Path, column: str, images: Sequence[str | None]) -> None:
        """Register the images of a column by id, one a row; rows without an id are left out."""
        with pq.ParquetFile(file) as opened:
            sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
        self._starts[file] = list(accumulate(sizes[:-1], initial=0))
        for row, image in enumerate(images):
            if image is not None:
                self.put(image, (file, column, row))

    def describe(self, image: str) -> str:
        """Return where an image is, for messages."""
        file, column, row = self._locations[image]
        return f"{image!r} in row {row + 1} of {file}, column {column!r},"

    def encoded(self, location: tuple[Path, str, int]) -> bytes:
        """Return the bytes in a cell, which holds them or an object with ``bytes``."""
        file, column, row = location
        group = bisect_right(self._starts[file], row) - 1
        content = self._row_group(file, column, group)[row - self._starts[file][group]]
        if isinstance(content, dict):
            content = content.get("bytes")
        if not isinstance(content, bytes):
            raise ValueError("its cell holds no bytes")
        return content

    def _row_group(self, file: Path, column: str, group: int) -> list[Any]:
        key = (file, column, group)
        with self._lock:
            if key not in self._kept:
                with pq.ParquetFile(file) as opened:
                    self._kept[key] = opened.read_row_group(group, columns=[column]).column(column).to_pylist()
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_ROW_GROUPS:
                self._kept.popitem(last=False)
            return self._kept[key]
