"""A folder of pictures with a table of who rated them how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.files import read_file
from pamela_rl.data.images import open_files
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources.rated_images import Part, RatedImages, assemble
from pamela_rl.errors import DataError


def read_folder(
    ratings: str | Path,
    images: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    scale: RatingScale | None = None,
    raters: str | Path | pd.DataFrame | None = None,
    on_bad_row: OnBadRow = "stop",
) -> RatedImages:
    """Read a CSV, Parquet or JSON-lines table of user, image and rating, and know where its pictures lie.

    Args:
        ratings: The table. ``user_id``, ``image`` and ``rating`` are needed, ``prompt`` and ``split`` are understood,
            and every other column is kept as it is.
        images: The folder or zip that the table's paths start from; None is the folder of the table.
        columns: Where the table's names are others: ours to the table's, e.g. ``{"user_id": "worker"}``.
        scale: What ratings can be; None is 1 to 5.
        raters: What people report of themselves: a table with the same column of users, one row a person, or a data
            frame indexed by user.
        on_bad_row: "stop" at the first bad row, or "skip" all of them and tell which.

    Raises:
        DataError: A file cannot be read, or a row is wrong; names file, row, value and remedy.
    """
    file, columns = Path(ratings), columns or {}
    ids = [columns.get(column, column) for column in ("user_id", "image")]
    rows, broken = read_file(file, ids, on_bad_row)
    people = raters if raters is None or isinstance(raters, pd.DataFrame) else _read_raters(Path(raters), ids[0])
    store = open_files(images if images is not None else file.parent)
    return assemble([Part(str(file), rows, columns, broken)], str(file), store, scale, people, on_bad_row)


def _read_raters(file: Path, user: str) -> pd.DataFrame:
    people, _ = read_file(file, [user, "user_id"], content="raters")
    key = next((column for column in (user, "user_id") if column in people.columns), None)
    if key is None:
        known = ", ".join(repr(str(column)) for column in people.columns)
        raise DataError(f"{file} has no column {user!r}; it has {known}. Name the column of users as the ratings do.")
    return people.rename(columns={key: "user_id"}).set_index("user_id")
