"""A dataset of the Hugging Face ``datasets`` library: an object, a folder written by save_to_disk, or a hub id."""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from pamela_rl.data.checks import OnBadRow, as_text
from pamela_rl.data.images import ImageStore, decode, decode_errors, open_files
from pamela_rl.data.ratings import SPLITS, RatingScale
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images
from pamela_rl.errors import ConfigError, DataError


class DatasetImages:
    """Pictures in the rows of a dataset, by id. The encoded bytes stay in the dataset."""

    def __init__(self) -> None:
        self._locations: dict[str, tuple[Any, int, str]] = {}

    def add(self, part: Any, column: str, ids: list[Any]) -> None:
        """Register the pictures of a column by id. The first row of an id counts; rows without an id are ignored."""
        for row, image in enumerate(ids):
            if isinstance(image, str):
                self._locations.setdefault(image, (part, row, column))

    def open(self, image: str) -> Image.Image:
        """Decode one picture to RGB, as ``ImageStore.open``."""
        with self._stream(image) as stream:
            return decode(stream)

    def digest(self, image: str) -> str:
        """Hash the picture's encoded bytes, as ``ImageStore.digest``."""
        with self._stream(image) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def missing_reason(self, image: str) -> str | None:
        """Return why the picture is not available, or None, as ``ImageStore.missing_reason``."""
        return None if image in self._locations else "no row of the dataset holds this picture; remove the row"

    @contextmanager
    def _stream(self, image: str) -> Iterator[io.BytesIO | io.BufferedReader]:
        if missing_reason := self.missing_reason(image):
            raise DataError(f"cannot open the image {image!r}: {missing_reason}.")
        part, row, column = self._locations[image]
        encoded = part[row][column]
        with decode_errors(f"{image!r} in row {row + 1} of the dataset"):
            if encoded["bytes"] is not None:
                yield io.BytesIO(encoded["bytes"])
            else:
                with Path(encoded["path"]).open("rb") as stream:
                    yield stream


def read_hf_dataset(
    dataset: Any,
    *,
    columns: Mapping[str, str],
    image_column: str = "image",
    images: str | Path | None = None,
    splits: Mapping[str, str] | None = None,
    scale: RatingScale | None = None,
    raters: pd.DataFrame | None = None,
    on_bad_row: OnBadRow = "stop",
) -> RatedImages:
    """Read ratings and pictures from a dataset. Nothing is decoded, and no code of the dataset is run.

    Args:
        dataset: A ``Dataset`` or ``DatasetDict``, a folder written by ``save_to_disk``, or a hub id.
        columns: Our column names to those of the dataset, e.g. ``{"user_id": "rater", "rating": "stars"}``. ``image`` is
            a column of ids; without it, the hash of a picture's encoded bytes is its id, so that equal pictures have
            the same id.
        image_column: The column of pictures.
        images: A folder or zip of the pictures that the column ``image`` names, for datasets without pictures.
        splits: Splits of the dataset to ours, e.g. ``{"test": "test_seen"}``; others are left out. None takes all
            splits with our names, or the only split.
        scale: The range of ratings; None is 1 to 5.
        raters: Demographics, indexed by user.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

    Raises:
        ConfigError: The library is not installed.
        DataError: The dataset cannot be loaded, or a row is wrong; names split, row, value and remedy.
    """
    library = _library()
    name = str(dataset) if isinstance(dataset, str | Path) else "the dataset"
    loaded = _load(library, dataset) if isinstance(dataset, str | Path) else dataset
    store: ImageStore = DatasetImages() if images is None else open_files(images)
    parts = []
    for label, split, rows in _selected_splits(library, loaded, name, splits):
        if isinstance(store, DatasetImages):
            if image_column not in rows.column_names:
                raise DataError(
                    f"{label} has no column {image_column!r}; it has {rows.column_names}: say image_column=."
                )
            encoded = rows.cast_column(image_column, library.Image(decode=False))
            frame = rows.remove_columns(image_column).to_pandas()
            if "image" not in columns:
                frame["image"] = pd.Series(list(_hashes(encoded, image_column)), dtype=object)
            key = columns.get("image", "image")
            if key in frame.columns:
                store.add(encoded, image_column, as_text(frame[key]).tolist())
        else:
            frame = rows.to_pandas()
        parts.append(SourceTable(label, frame if split is None else frame.assign(split=split), columns, []))
    return build_rated_images(parts, name, store, scale, raters, on_bad_row)


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise ConfigError(
            "reading Hugging Face datasets needs the package 'datasets', which is not installed; "
            "install it with: pip install 'pamela_rl[datasets]'."
        ) from error


def _load(library: Any, dataset: str | Path) -> Any:
    local = Path(dataset).is_dir()
    try:
        return library.load_from_disk(str(dataset)) if local else library.load_dataset(str(dataset))
    except Exception as error:  # the library raises whatever the network, the file system or the hub raised
        raise DataError(
            f"cannot load the dataset {str(dataset)!r} ({str(error)[:200]}); give a folder written by save_to_disk, "
            "or a hub id that can be reached from here."
        ) from error


def _selected_splits(
    library: Any, dataset: Any, name: str, splits: Mapping[str, str] | None
) -> Iterator[tuple[str, str | None, Any]]:
    """Yield for each split its name in messages, our name for it if any, and its rows."""
    if isinstance(dataset, library.Dataset):
        yield name, None, dataset
        return
    if not isinstance(dataset, library.DatasetDict):
        raise DataError(f"{name} is a {type(dataset).__name__}; give a Dataset or DatasetDict that is not streamed.")
    if splits is None and len(dataset) == 1:
        yield from ((f"{name}, split {theirs!r}", None, rows) for theirs, rows in dataset.items())
        return
    chosen = {theirs: theirs for theirs in dataset if theirs in SPLITS} if splits is None else splits
    unknown = [
        f"{theirs!r}: {ours!r}" for theirs, ours in chosen.items() if theirs not in dataset or ours not in SPLITS
    ]
    if unknown or not chosen or (splits is None and len(chosen) < len(dataset)):
        raise DataError(
            f"{name} has the splits {', '.join(map(repr, dataset))}, and ours are {', '.join(SPLITS)}; say which is "
            f"which with splits={{theirs: ours}}" + (f" ({', '.join(unknown)} is none)." if unknown else ".")
        )
    for theirs, ours in chosen.items():
        yield f"{name}, split {theirs!r}", ours, dataset[theirs]


def _hashes(encoded: Any, image_column: str) -> Iterator[str | None]:
    for batch in encoded.select_columns([image_column]).iter(batch_size=64):
        for image in batch[image_column]:
            if image is None:
                yield None
            elif image["bytes"] is None:
                yield str(image["path"])
            else:
                yield hashlib.sha256(image["bytes"]).hexdigest()[:32]
