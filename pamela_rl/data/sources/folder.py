"""A folder of pictures with a table of ratings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.files import read_file
from pamela_rl.data.images import open_files
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images
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
    """Read a CSV, Parquet or JSON-lines table of ratings, and open the store of its pictures.

    Args:
        ratings: The table, with columns ``user_id``, ``image`` and ``rating`` and optionally ``prompt`` and ``split``.
            Other columns are kept.
        images: The folder or zip that the paths are relative to; None is the folder of the table.
        columns: Our column names to those of the table, where they differ, e.g. ``{"user_id": "worker"}``.
        scale: The range of ratings; None is 1 to 5.
        raters: Demographics: a table with the same column of user ids and one row per user, or a data frame indexed by
            user.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

    Raises:
        DataError: A file cannot be read, or a row is wrong; names file, row, value and remedy.
    """
    file, columns = Path(ratings), columns or {}
    ids = [columns.get(column, column) for column in ("user_id", "image")]
    rows, broken = read_file(file, ids, on_bad_row)
    table = raters if raters is None or isinstance(raters, pd.DataFrame) else _read_raters(Path(raters), ids[0])
    store = open_files(images if images is not None else file.parent)
    return build_rated_images(
        [SourceTable(str(file), rows, columns, broken)], str(file), store, scale, table, on_bad_row
    )


def _read_raters(file: Path, user: str) -> pd.DataFrame:
    table, _ = read_file(file, [user, "user_id"], content="raters")
    key = next((column for column in (user, "user_id") if column in table.columns), None)
    if key is None:
        available = ", ".join(repr(str(column)) for column in table.columns)
        raise DataError(
            f"{file} has no column {user!r}; it has {available}. Name the column of users as the ratings do."
        )
    return table.rename(columns={key: "user_id"}).set_index("user_id")
