"""A dataset of Parquet files with images inside: a file, a folder of shards, or a downloaded repository of a dataset.

Images are cells of bytes, or objects ``{"bytes", "path"}`` as the Hugging Face hub writes them; the schema's metadata names the
labels. The library ``datasets`` is not needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pamela_rl.data.embedded_images import ParquetImages
from pamela_rl.data.files import is_table
from pamela_rl.data.images import ImageStore, open_files
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.dataset_splits import choose_splits, split_of
from pamela_rl.data.sources.dataset_tables import read_rows, with_label_names
from pamela_rl.data.sources.exports import Source
from pamela_rl.data.sources.pick_a_pic import JPGS, UIDS, is_pick_a_pic
from pamela_rl.errors import DataError

BATCH = 64  # rows that are hashed together


def recognises(path: Path) -> bool:
    """Return whether the path is a Parquet file with images inside, or a folder of Parquet files and no other table.

    A single Parquet file without images is a table like others.
    """
    files = shards(path)
    if not files:
        return False
    try:
        inside = bool(image_columns(pq.read_schema(files[0])))
    except (OSError, pa.ArrowException):
        return False
    if path.is_file():
        return inside
    others = [file for file in path.iterdir() if is_table(file.name) and file.suffix.lower() != ".parquet"]
    in_subfolders = all(file.parent != path for file in files)
    return inside or (in_subfolders and not others)


def read(path: Path, settings: SourceSettings) -> Source:
    """Read the splits that ``settings.split`` names, or all that have our names, or the only one.

    Images are not decoded, and stay in their files. Where no column names them, their id is the hash of their bytes, for
    which all are read once.

    Raises:
        DataError: A file is broken, the splits or columns are ambiguous, or a row is wrong.
    """
    files = shards(path)
    split_by_file = {file: split_of(file.relative_to(path).as_posix()) if path.is_dir() else "" for file in files}
    chosen = choose_splits(list(split_by_file.values()), settings.split, str(path))
    files = [file for file in files if split_by_file[file] in chosen]
    inside = ParquetImages(str(path))
    tables: list[pd.DataFrame] = []
    fields: list[str] = []
    for file in files:
        try:
            rows, fields = _read_shard(file, settings, inside)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {file} ({str(error)[:200]}); download it again.") from error
        ours = chosen[split_by_file[file]]
        tables.append(rows if ours is None else rows.assign(split=ours))
    store: ImageStore = inside
    if not fields:
        store = open_files(settings.images or (path if path.is_dir() else path.parent))
    return read_rows(pd.concat(tables, ignore_index=True), fields, str(path), store, settings)


def shards(path: Path) -> list[Path]:
    """Return the Parquet files that a path leads to, in the order of their names. Hidden folders have none."""
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
        return [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    return [path] if path.suffix.lower() == ".parquet" and path.is_file() else []


def image_columns(schema: Any) -> list[str]:
    """Return the columns that hold encoded images."""
    names = []
    for column in schema:
        kind = column.type
        is_struct = pa.types.is_struct(kind) and "bytes" in {part.name for part in kind}
        if is_struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            names.append(column.name)
    return names


def _read_shard(file: Path, settings: SourceSettings, store: ParquetImages) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of a file, with ids in place of images, and the columns of images."""
    schema = pq.read_schema(file)
    columns = image_columns(schema)
    wanted = columns if settings.image_column is None else [settings.image_column]
    if not set(wanted) <= set(schema.names):
        raise DataError(
            f"{file} has no column {settings.image_column!r}; it has {', '.join(map(repr, schema.names))}. Correct "
            "source.image_column."
        )
    rows = pq.read_table(file, columns=[name for name in schema.names if name not in columns]).to_pandas()
    rows = with_label_names(rows, _labels(schema))
    if is_pick_a_pic(rows.columns):
        ids = dict(zip(JPGS, UIDS))
        wanted = [column for column in wanted if column in ids]
    else:
        key = settings.columns.get("image", "")
        ids = {wanted[0]: key} if len(wanted) == 1 and key in rows.columns else {}
    for column in wanted:
        if column not in ids:
            rows[column] = list(_hashes(file, column))
        keys = rows[ids.get(column, column)]
        store.put_column(file, column, keys.astype("str").where(keys.notna(), None).tolist())
    return rows, [ids.get(column, column) for column in wanted]


def _labels(schema: Any) -> dict[str, list[str]]:
    """Return the names of the labels of each column of labels, which the Hugging Face hub writes into the schema."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    kinds = {name: kind for name, kind in features.items() if isinstance(kind, dict)}
    return {
        name: kind["names"] for name, kind in kinds.items() if kind.get("_type") == "ClassLabel" and kind.get("names")
    }


def _hashes(file: Path, column: str) -> Iterator[str | None]:
    """Yield the hash of each encoded image, or None where there is none."""
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(batch_size=BATCH, columns=[column]):
            for cell in batch.column(0).to_pylist():
                content = cell.get("bytes") if isinstance(cell, dict) else cell
                yield hashlib.sha256(content).hexdigest()[:32] if content else None
