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
from pamela_rl.data.images import ImageStore, decode, decoding, open_files
from pamela_rl.data.ratings import SPLITS, RatingScale
from pamela_rl.data.sources.rated_images import Part, RatedImages, assemble
from pamela_rl.errors import ConfigError, DataError


class DatasetImages:
    """Pictures in the rows of a dataset, by id; the encoded bytes stay where the dataset keeps them."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Any, int, str]] = {}

    def add(self, part: Any, column: str, ids: list[Any]) -> None:
        """Note which row holds which picture: of rows with the same id the first, and none that has no id."""
        for row, image in enumerate(ids):
            if isinstance(image, str):
                self._places.setdefault(image, (part, row, column))

    def open(self, image: str) -> Image.Image:
        """Decode one picture to RGB, as ``ImageStore.open``."""
        with self._stream(image) as stream:
            return decode(stream)

    def digest(self, image: str) -> str:
        """Hash the picture's encoded bytes, as ``ImageStore.digest``."""
        with self._stream(image) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def refusal(self, image: str) -> str | None:
        """Say why there is no such picture, as the end of a sentence, or None."""
        return None if image in self._places else "no row of the dataset holds this picture; remove the row"

    @contextmanager
    def _stream(self, image: str) -> Iterator[io.BytesIO | io.BufferedReader]:
        if refusal := self.refusal(image):
            raise DataError(f"cannot open the image {image!r}: {refusal}.")
        part, row, column = self._places[image]
        encoded = part[row][column]
        with decoding(f"{image!r} in row {row + 1} of the dataset"):
            if encoded["bytes"] is not None:
                yield io.BytesIO(encoded["bytes"])
            else:
                with Path(encoded["path"]).open("rb") as stream:
                    yield stream


def read_hf_dataset(
    dataset: Any,
    *,
    columns: Mapping[str, str],
    pictures: str = "image",
    images: str | Path | None = None,
    splits: Mapping[str, str] | None = None,
    scale: RatingScale | None = None,
    raters: pd.DataFrame | None = None,
    on_bad_row: OnBadRow = "stop",
) -> RatedImages:
    """Read ratings and pictures from a dataset; nothing is decoded, and no code that comes with a dataset is run.

    Args:
        dataset: A ``Dataset`` or ``DatasetDict``, a folder written by ``save_to_disk``, or a hub id.
        columns: Ours to the dataset's, e.g. ``{"user_id": "rater", "rating": "stars"}``. ``image`` is a column of ids;
            without it a picture's id is the hash of its encoded bytes (each is read once), so that the same
            picture rated by many is one.
        pictures: The column of pictures.
        images: A folder or zip of pictures that the column ``image`` names, for datasets that hold none.
        splits: The dataset's splits to ours, e.g. ``{"test": "test_seen"}``; others are left out. None takes all
            whose names are ours, or the only one there is.
        scale: What ratings can be; None is 1 to 5.
        raters: What people report of themselves, indexed by user.
        on_bad_row: "stop" at the first bad row, or "skip" all of them and tell which.

    Raises:
        ConfigError: The library is not installed.
        DataError: The dataset cannot be had, or a row is wrong; names split, row, value and remedy.
    """
    library = _library()
    name = str(dataset) if isinstance(dataset, str | Path) else "the dataset"
    loaded = _load(library, dataset) if isinstance(dataset, str | Path) else dataset
    store: ImageStore = DatasetImages() if images is None else open_files(images)
    parts = []
    for label, split, rows in _chosen(library, loaded, name, splits):
        if isinstance(store, DatasetImages):
            if pictures not in rows.column_names:
                raise DataError(f"{label} has no column {pictures!r}; it has {rows.column_names}: say pictures=.")
            encoded = rows.cast_column(pictures, library.Image(decode=False))
            frame = rows.remove_columns(pictures).to_pandas()
            if "image" not in columns:
                frame["image"] = pd.Series(list(_hashes(encoded, pictures)), dtype=object)
            key = columns.get("image", "image")
            if key in frame.columns:
                store.add(encoded, pictures, as_text(frame[key]).tolist())
        else:
            frame = rows.to_pandas()
        parts.append(Part(label, frame if split is None else frame.assign(split=split), columns, []))
    return assemble(parts, name, store, scale, raters, on_bad_row)


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


def _chosen(
    library: Any, dataset: Any, name: str, splits: Mapping[str, str] | None
) -> Iterator[tuple[str, str | None, Any]]:
    """Yield each split to read: how to call it in messages, our name for it if any, and its rows."""
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


def _hashes(encoded: Any, pictures: str) -> Iterator[str | None]:
    for batch in encoded.select_columns([pictures]).iter(batch_size=64):
        for picture in batch[pictures]:
            if picture is None:
                yield None
            elif picture["bytes"] is None:
                yield str(picture["path"])
            else:
                yield hashlib.sha256(picture["bytes"]).hexdigest()[:32]
