"""The image folder of the Hugging Face library ``datasets``: images with ``metadata`` in their folder, perhaps by split.

From its documentation: ``metadata.csv``, ``.jsonl`` or ``.parquet`` lies beside the images, and ``file_name`` is relative to
it; a column ``NAME_file_name`` is an image called NAME, of which a row may have several; folders ``train``, ``test`` and the
like, each with its own metadata, are splits; without metadata, the folders inside a split are labels.
"""

from __future__ import annotations

import posixpath
from pathlib import Path, PurePosixPath

import pandas as pd

from pamela_rl.data.files import is_table, parse
from pamela_rl.data.image_names import is_image
from pamela_rl.data.images import Files, open_files
from pamela_rl.data.scales import rating_of_name
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.dataset_splits import choose_splits, split_of
from pamela_rl.data.sources.dataset_tables import read_rows
from pamela_rl.data.sources.exports import Source
from pamela_rl.errors import DataError

FILE_NAME = "file_name"


def recognises(path: Path) -> bool:
    """Return whether the path is a folder or zip with such metadata in subfolders, or with labels in splits.

    Metadata in the folder itself is a table like others.
    """
    try:
        files = open_files(path) if path.is_dir() or path.suffix.lower() == ".zip" else None
    except DataError:
        return False
    if files is None:
        return False
    names = files.file_names()
    at_top = [name for name in names if "/" not in name and is_table(name)]
    return not at_top and bool(_metadata(names) or _labelled(names))


def read(path: Path, settings: SourceSettings) -> Source:
    """Read the splits that ``settings.split`` names, or all that have our names, or the only one.

    Raises:
        DataError: Metadata cannot be read, the splits or columns are ambiguous, or a row is wrong.
    """
    files = open_files(path)
    names = files.file_names()
    metadata = _metadata(names)
    if not metadata:
        rows, fields = _labelled_rows(_labelled(names), settings, str(path)), ["image"]
        return read_rows(rows, fields, str(path), files, settings)
    chosen = choose_splits([split_of(name) for name in metadata], settings.split, str(path))
    tables: list[pd.DataFrame] = []
    for name in metadata:
        split = split_of(name)
        if split in chosen:
            rows = _metadata_rows(files, name, settings)
            ours = chosen[split]
            tables.append(rows if ours is None else rows.assign(split=ours))
    rows = pd.concat(tables, ignore_index=True)
    fields = [str(column) for column in rows.columns if f"{column}_{FILE_NAME}" in rows.columns or column == "image"]
    return read_rows(rows, fields, str(path), files, settings)


def _metadata(names: list[str]) -> list[str]:
    files = [PurePosixPath(name) for name in names]
    return [file.as_posix() for file in files if file.stem == "metadata" and is_table(file.name)]


def _metadata_rows(files: Files, name: str, settings: SourceSettings) -> pd.DataFrame:
    """Return the rows of one file, with the paths of images relative to the whole folder."""
    source = f"{files}/{name}"
    rows, _ = parse(files.read(name), posixpath.splitext(name)[1], None, source, settings.on_bad_row)
    folder = posixpath.dirname(name)
    for column in [str(column) for column in rows.columns]:
        if column == FILE_NAME or column.endswith(f"_{FILE_NAME}"):
            ours = column.removesuffix(f"_{FILE_NAME}") if column != FILE_NAME else "image"
            rows[ours] = [posixpath.join(folder, str(cell)) if pd.notna(cell) else None for cell in rows[column]]
    if "image" not in rows.columns and not any(str(column).endswith(FILE_NAME) for column in rows.columns):
        raise DataError(
            f"{source} has no column {FILE_NAME!r}; it has {', '.join(map(repr, rows.columns))}. Name the column of "
            f"images {FILE_NAME!r}."
        )
    return rows


def _labelled(names: list[str]) -> list[str]:
    """Return the images that lie in ``split/rating/``."""
    parts = {name: PurePosixPath(name).parts for name in names if is_image(name)}
    return [
        name
        for name, path in parts.items()
        if len(path) == 3 and split_of(f"{path[0]}/x") and rating_of_name(path[1]) is not None
    ]


def _labelled_rows(images: list[str], settings: SourceSettings, source: str) -> pd.DataFrame:
    paths = [PurePosixPath(name).parts for name in images]
    chosen = choose_splits([path[0] for path in paths], settings.split, source)
    rows = pd.DataFrame({"image": images, "rating": [rating_of_name(path[1]) for path in paths]})
    if any(chosen.values()):
        rows["split"] = [chosen.get(path[0]) for path in paths]
    return rows[[path[0] in chosen for path in paths]]
