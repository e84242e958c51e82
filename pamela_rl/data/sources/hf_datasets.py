"""A dataset of the Hugging Face ``datasets`` library: an object, a folder written by save_to_disk, or a hub id."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.columns import rating_columns, select_columns
from pamela_rl.data.embedded_images import EmbeddedImages
from pamela_rl.data.images import ImageStore, open_files
from pamela_rl.data.ratings import SPLITS, RatingScale
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.dataset_splits import choose_splits
from pamela_rl.data.sources.dataset_tables import read_rows, with_label_names
from pamela_rl.data.sources.exports import Source
from pamela_rl.data.sources.pick_a_pic import JPGS, UIDS, is_pick_a_pic
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images
from pamela_rl.errors import ConfigError, DataError

SAVED = ("dataset_dict.json", "state.json")  # files that save_to_disk writes


class DatasetImages(EmbeddedImages[tuple[Any, str, int]]):
    """Images in the rows of datasets, at (dataset, column, row). The encoded bytes stay in the dataset."""

    def put_column(self, part: Any, column: str, ids: list[Any]) -> None:
        """Register the images of a column by id, one a row; rows without an id are left out."""
        for row, image in enumerate(ids):
            if isinstance(image, str):
                self.put(image, (part, column, row))

    def describe(self, image: str) -> str:
        """Return where an image is, for messages."""
        return f"{image!r} in row {self._locations[image][2] + 1} of {self.source}"

    def encoded(self, location: tuple[Any, str, int]) -> bytes:
        """Return the bytes in a row, or those of the file that it names."""
        part, column, row = location
        cell = part[row][column]
        if isinstance(cell, bytes):
            return cell
        return bytes(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


def recognises(path: Path) -> bool:
    """Return whether the path is a folder that save_to_disk wrote."""
    return path.is_dir() and any((path / name).is_file() for name in SAVED)


def read(path: Path, settings: SourceSettings) -> Source:
    """Read a folder that save_to_disk wrote, or a hub id, and the splits that ``settings.split`` names.

    Raises:
        ConfigError: The library is not installed.
        DataError: The dataset cannot be loaded, its splits or columns are ambiguous, or a row is wrong.
    """
    library = _library()
    loaded, source = _load(library, path), str(path)
    parts = {"": loaded} if isinstance(loaded, library.Dataset) else dict(loaded)
    chosen = choose_splits(list(parts), settings.split, source)
    store = DatasetImages(source)
    tables: list[pd.DataFrame] = []
    fields: list[str] = []
    for name, ours in chosen.items():
        rows, fields = _with_ids(library, parts[name], settings.image_column, settings.columns, store, source)
        tables.append(rows if ours is None else rows.assign(split=ours))
    images: ImageStore = store if fields else open_files(settings.images or path)
    return read_rows(pd.concat(tables, ignore_index=True), fields, source, images, settings)


def read_hf_dataset(
    dataset: Any,
    *,
    columns: Mapping[str, str] | None = None,
    image_column: str | None = None,
    images: str | Path | None = None,
    splits: Mapping[str, str] | None = None,
    user: str | None = None,
    scale: RatingScale | None = None,
    raters: pd.DataFrame | None = None,
    on_bad_row: OnBadRow = "stop",
) -> RatedImages:
    """Read ratings and images from a dataset. Nothing is decoded, and no code of the dataset is run.

    Args:
        dataset: A ``Dataset`` or ``DatasetDict``, a folder written by ``save_to_disk``, or a hub id.
        columns: Our column names to those of the dataset, where they have unusual names, e.g. ``{"user_id": "rater"}``.
            ``image`` is a column of ids; without it, the hash of an image's encoded bytes is its id, so that equal images
            have the same id. Labels are read by their names: of a label called "4", the rating is 4.
        image_column: The column of images; None is the only one.
        images: A folder or zip of the images that the column ``image`` names, for datasets without images.
        splits: Splits of the dataset to ours, e.g. ``{"test": "test_seen"}``; others are left out. None takes all
            splits with our names, or the only split.
        user: Who rated, if there is no column of users; None is "me".
        scale: The range of ratings; None is 1 to 5, or what ``scales.guess_scale`` finds.
        raters: Demographics, indexed by user.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

    Raises:
        ConfigError: The library is not installed.
        DataError: The dataset cannot be loaded, columns are ambiguous, or a row is wrong; names split, row, value and
            remedy.
    """
    library = _library()
    name = str(dataset) if isinstance(dataset, str | Path) else "the dataset"
    loaded = _load(library, dataset) if isinstance(dataset, str | Path) else dataset
    inside, told = DatasetImages(name), dict(columns or {})
    parts: list[SourceTable] = []
    for label, split, rows in _selected_splits(library, loaded, name, splits):
        if images is None:
            frame, fields = _with_ids(library, rows, image_column, told, inside, label)
            if len(fields) != 1:
                raise DataError(
                    f"{label} has {len(fields)} columns of images in {rows.column_names}; say which one was rated with "
                    "image_column=, or where the images are with images=."
                )
            mine = {**told, "image": fields[0]}
        else:
            frame, mine = with_label_names(rows.to_pandas(), _labels(library, rows)), told
        found = select_columns(frame, rating_columns(frame, mine, label), mine, user, label)
        parts.append(SourceTable(label, found if split is None else found.assign(split=split), {}, []))
    store: ImageStore = inside if images is None else open_files(images)
    return build_rated_images(parts, name, store, scale, raters, on_bad_row, leave_out_unrated=True)


def _with_ids(
    library: Any, rows: Any, image_column: str | None, told: Mapping[str, str], store: DatasetImages, source: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows with ids in place of images, and the columns of ids; the images are registered in the store."""
    inside = [name for name, kind in rows.features.items() if _holds_images(library, kind)]
    if image_column is not None and image_column not in rows.column_names:
        raise DataError(
            f"{source} has no column {image_column!r}; it has {rows.column_names}: correct image_column, or leave it out."
        )
    wanted = inside if image_column is None else [image_column]
    frame = rows.remove_columns(sorted({*inside, *wanted})).to_pandas()
    frame = with_label_names(frame, _labels(library, rows))
    ids: dict[str, str] = {}
    if is_pick_a_pic(frame.columns):
        ids = dict(zip(JPGS, UIDS))
        wanted = [name for name in wanted if name in ids]
    elif len(wanted) == 1 and told.get("image") in frame.columns:
        ids = {wanted[0]: told["image"]}
    for name in wanted:
        encoded = rows.select_columns([name])
        if isinstance(rows.features[name], library.Image):
            encoded = encoded.cast_column(name, library.Image(decode=False))
        if name not in ids:
            frame[name] = pd.Series(list(_hashes(encoded, name)), dtype=object)
        keys = frame[ids.get(name, name)]
        store.put_column(encoded, name, keys.astype("str").where(keys.notna(), None).tolist())
    return frame, [ids.get(name, name) for name in wanted]


def _holds_images(library: Any, kind: Any) -> bool:
    return isinstance(kind, library.Image) or getattr(kind, "dtype", None) in ("binary", "large_binary")


def _labels(library: Any, rows: Any) -> dict[str, list[str]]:
    return {name: kind.names for name, kind in rows.features.items() if isinstance(kind, library.ClassLabel)}


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
            content = image.get("bytes") if isinstance(image, dict) else image
            if content:
                yield hashlib.sha256(content).hexdigest()[:32]
            else:
                yield str(image["path"]) if isinstance(image, dict) and image.get("path") else None
