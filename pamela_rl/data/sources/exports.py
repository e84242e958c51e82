"""From what another tool exported to ratings and choices: files of JSON, and the checks that all tables get."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.columns import rating_columns, select_columns
from pamela_rl.data.delimited import decode_text
from pamela_rl.data.files import is_table
from pamela_rl.data.images import ImageStore, open_files
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.annotations import Annotations, as_tables, find_images
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images
from pamela_rl.errors import DataError

Source = tuple[RatedImages, ChoiceTable | None]


def only_table(path: Path, suffixes: Collection[str]) -> Path | None:
    """Return the path itself, or the only table in the folder it is, if its ending is one of these; else None."""
    if path.is_dir():
        tables = [file for file in sorted(path.iterdir()) if is_table(file.name) and file.is_file()]
        path = tables[0] if len(tables) == 1 else path
    return path if path.suffix.lower() in suffixes and path.is_file() else None


def header(path: Path) -> list[str]:
    """Return the names in the first line of a table with commas or tabs (``only_table``); empty if it is anything else."""
    file = only_table(path, (".csv", ".tsv"))
    if file is None:
        return []
    try:
        with file.open("rb") as stream:
            line = decode_text(stream.readline(10_000)).lstrip("\ufeff")
        return next(csv.reader([line], delimiter="\t" if file.suffix.lower() == ".tsv" else ","), [])
    except (OSError, ValueError, csv.Error):
        return []


def first_object(path: Path) -> dict[str, Any] | None:
    """Return the first object of the list that a JSON file holds (``only_table``), or None if it holds anything else."""
    file = only_table(path, (".json",))
    if file is None:
        return None
    try:
        text = decode_text(file.read_bytes()).lstrip("\ufeff \t\r\n")
        start = text.find("{")
        if not text.startswith("[") or start < 0 or text[1:start].strip():
            return None
        entry, _ = json.JSONDecoder().raw_decode(text, start)
    except (OSError, ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def read_json_list(path: Path, remedy: str) -> list[dict[str, Any]]:
    """Return the objects of a file with a list of them.

    Args:
        path: The file.
        remedy: What to do if it is broken, for messages.

    Raises:
        DataError: It cannot be read, or is no such list.
    """
    try:
        entries = json.loads(decode_text(path.read_bytes()).lstrip("\ufeff"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path} ({error}); {remedy}.") from error
    for position, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise DataError(f"{path}, entry {position}: {str(entry)[:40]!r} is no object; {remedy}.")
    return list(entries)


def read_annotations(annotations: Annotations, path: Path, settings: SourceSettings) -> Source:
    """Return the ratings or the choices of answer sheets.

    Args:
        annotations: The answer sheets.
        path: The file they came from; images are looked for beside it, unless ``settings.images`` says where.
        settings: Of the source.

    Raises:
        DataError: They hold neither ratings nor choices, or a row is wrong; names the row and the remedy.
    """
    ratings, choices = as_tables(annotations, settings.columns)
    store: ImageStore = open_files(settings.images or path.parent)
    if ratings is not None:
        ratings, store = find_images(ratings, ("image",), annotations.source, store)
        return ratings_of(ratings, annotations.source, store, settings, named(ratings, settings))
    assert choices is not None
    choices, store = find_images(choices, ("image_a", "image_b"), annotations.source, store)
    return choices_of(choices, annotations.source, store, settings, named(choices, settings))


def ratings_of(
    rows: pd.DataFrame, source: str, images: ImageStore, settings: SourceSettings, columns: Mapping[str, str]
) -> Source:
    """Check a table of ratings; there are no choices then.

    Args:
        rows: One rating per row.
        source: Names them in messages.
        images: Where the images are.
        settings: Of the source.
        columns: Our names of columns to those of the rows, as far as they are known; others are found by usual names.

    Raises:
        DataError: A column is missing or ambiguous, a row is wrong, or no row is left.
    """
    rows = select_columns(rows, rating_columns(rows, columns, source), columns, settings.user, source)
    scale = RatingScale(*settings.scale) if settings.scale else None
    part = SourceTable(source, rows, {}, [])
    rated = build_rated_images([part], source, images, scale, None, settings.on_bad_row, leave_out_unrated=True)
    return rated, None


def choices_of(
    rows: pd.DataFrame, source: str, images: ImageStore, settings: SourceSettings, columns: Mapping[str, str]
) -> Source:
    """Check a table of choices; there are no ratings then.

    Args:
        rows: One choice per row.
        source: Names them in messages.
        images: Where the images are.
        settings: Of the source.
        columns: As in ``ratings_of``.

    Raises:
        DataError: A column is missing or ambiguous, a row is wrong, or no row is left.
    """
    choices, skipped = ChoiceTable.from_rows(
        rows, source, on_bad_row=settings.on_bad_row, columns=columns, user=settings.user, images=images
    )
    if choices.rows.empty:
        raise DataError(f"{source} holds no choice" + (" that is right; see above." if skipped else "."))
    scale = RatingScale(*settings.scale) if settings.scale else RatingScale()
    no_ratings = choices.rows[["user_id"]].assign(image="", rating=scale.low)[:0]
    return RatedImages(RatingTable(no_ratings, scale, source=source), images, skipped), choices


def named(rows: pd.DataFrame, settings: SourceSettings) -> dict[str, str]:
    """Return the columns of rows that have our names for image, rating, choice and user, and what the settings say."""
    told = {ours: name for ours, name in settings.columns.items() if ours in ("user_id", "prompt", "split")}
    ours = ("image", "rating", "image_a", "image_b", "choice", "user_id")
    return {**{name: name for name in ours if name in rows.columns}, **told}
