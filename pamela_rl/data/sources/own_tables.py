"""The table of ratings or choices that a path of one's own leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pamela_rl.data.checks import OnBadRow, SkippedRows
from pamela_rl.data.columns import is_choice_table, is_rating_table, rating_columns
from pamela_rl.data.files import check_suffix, is_table, parse
from pamela_rl.data.image_names import is_image
from pamela_rl.data.images import Files, open_files
from pamela_rl.data.scales import parse_ratings, rating_of_name
from pamela_rl.errors import DataError

NOT_RATED = ("unrated", "unsorted", "not rated", "todo", "to rate", "rest", "other", "new")
OFTEN_NO_TABLES = (".txt", ".json")  # a file with such an ending counts only if it has columns of images and ratings
REMEDY = (
    "put a table with the columns image and rating beside them, or sort them into folders 1 to 5 or liked and disliked; "
    "pamela draw makes a folder of images with a table to fill in"
)


@dataclass(frozen=True)
class OwnTable:
    """A table as it was read.

    Attributes:
        source: The file or folder, for messages.
        rows: Cells as text, labelled by their position in the file.
        files: The folder or zip that its names of images are relative to.
        skipped: Malformed lines of the file.
    """

    source: str
    rows: pd.DataFrame
    files: Files
    skipped: list[SkippedRows] = field(default_factory=list)


def open_table(path: str | Path, columns: Mapping[str, str] | None = None, on_bad_row: OnBadRow = "stop") -> OwnTable:
    """Read the table that a path leads to.

    The path is a table, or a folder or zip

    - with one table in it, of ratings or of choices: tables without the columns of either, and tables of ratings without
      a rating, do not count where there are several, and texts and JSON without the columns never;
    - or without a table, with folders of images that are named by their ratings: numbers (1 to 5, "4 stars") or words
      (liked and disliked, good and bad, yes and no). Images in no folder, or in one called "unrated", are not rated.

    A folder with nothing but another folder in it is passed through.

    Args:
        path: The table, folder or zip; in a zip it may be ``images.zip/ratings.csv``.
        columns: Our column names to those of the table.
        on_bad_row: What to do with malformed lines.

    Raises:
        DataError: There is no table and no folder that is named by a rating, or there are several tables; or the table
            cannot be read.
    """
    place = Path(path)
    if is_table(place.name) and not place.is_dir():
        files = open_files(place.parent)
        return _read(files, place.name, str(path), on_bad_row)
    if place.is_file() and place.suffix.lower() != ".zip":
        check_suffix(place)
    files = open_files(place)
    while True:
        table = _only_table(files, columns or {}, on_bad_row)
        if table is not None:
            return table
        inner = _only_folder(files)
        if inner is None:
            return _rated_folders(files)
        files = inner


def _read(files: Files, name: str, source: str, on_bad_row: OnBadRow) -> OwnTable:
    if not files.has_file(name):
        raise DataError(f"cannot read the ratings in {source} (there is no such file); correct the path.")
    rows, skipped = parse(files.read(name), Path(name).suffix, None, source, on_bad_row)
    return OwnTable(source, rows, files, skipped)


def _only_folder(files: Files) -> Files | None:
    """Return the files of the only folder, if there is one, no image beside it, and its name is no rating."""
    names = [name for name in files.file_names() if not name.startswith(("__MACOSX/", "."))]
    tops = {name.split("/")[0] for name in names if "/" in name}
    if len(tops) != 1 or any("/" not in name and is_image(name) for name in names):
        return None
    (top,) = tops
    return None if rating_of_name(top) is not None else files.subfolder(top)


def _only_table(files: Files, columns: Mapping[str, str], on_bad_row: OnBadRow) -> OwnTable | None:
    """Return the table that lies in a folder, or None if no file in it is one."""
    tables: list[OwnTable] = []
    empty: list[OwnTable] = []
    names = [name for name in files.file_names() if "/" not in name and is_table(name)]
    for name in names:
        try:
            table = _read(files, name, f"{files}/{name}", on_bad_row)
        except DataError:
            continue  # raised below if it is the only table
        if is_choice_table(table.rows, columns):
            tables.append(table)
        elif is_rating_table(table.rows, columns):
            (tables if _is_rated(table, columns) else empty).append(table)
    found = tables or empty
    if len(found) == 1:
        return found[0]
    unknown = [name for name in names if not name.lower().endswith(OFTEN_NO_TABLES)]
    if not found and len(unknown) <= 1:
        return _read(files, unknown[0], f"{files}/{unknown[0]}", on_bad_row) if unknown else None
    which = [Path(table.source).name for table in found] or unknown
    what = "tables" if found else "files that end as tables do, and none has columns of images and ratings"
    raise DataError(
        f"{files} holds {len(which)} {what}: {', '.join(map(repr, which))}; give the path of the one to read, "
        f"e.g. --source.path {files}/{which[0]}."
    )


def _is_rated(table: OwnTable, columns: Mapping[str, str]) -> bool:
    try:
        rating = rating_columns(table.rows, columns, table.source).theirs["rating"]
    except DataError:  # ambiguous; told when this table is the one to read
        return True
    return bool(parse_ratings(table.rows[rating])[0].notna().any())


def _rated_folders(files: Files) -> OwnTable:
    images = [name for name in files.file_names() if is_image(name)]
    folders = {name: name.split("/")[0] if "/" in name else "" for name in images}
    ratings = {folder: rating_of_name(folder) for folder in dict.fromkeys(folders.values())}
    rated = {folder: rating for folder, rating in ratings.items() if rating is not None}
    if not rated:
        number = f"{len(images):,} images but no ratings" if images else "neither images nor a table"
        raise DataError(f"{files} holds {number}; {REMEDY}.")
    strange = [folder for folder in ratings.keys() - rated.keys() if folder and folder.casefold() not in NOT_RATED]
    if strange or len({isinstance(rating, str) for rating in rated.values()}) > 1:
        names = ", ".join(map(repr, sorted(strange or rated)))
        what = "folders that are no rating" if strange else "folders of numbers and of words"
        raise DataError(
            f"{files} holds {what}: {names}; name all folders by numbers, or liked and disliked, and those of images "
            "that are not rated 'unrated'."
        )
    print(f"{files}: ratings are the names of the folders {', '.join(map(repr, rated))}.")
    values = [ratings[folders[name]] for name in images]
    return OwnTable(str(files), pd.DataFrame({"image": images, "rating": values}), files)
