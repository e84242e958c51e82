"""Images of one's own, with a table of ratings or in folders that are named by their ratings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.columns import rating_columns, select_columns, user_column
from pamela_rl.data.files import read_file, with_numbers
from pamela_rl.data.images import open_files
from pamela_rl.data.ratings import TEXT, RatingScale
from pamela_rl.data.sources.own_tables import OwnTable, open_table
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images


def read_folder(
    ratings: str | Path | OwnTable,
    images: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    user: str | None = None,
    scale: RatingScale | None = None,
    raters: str | Path | pd.DataFrame | None = None,
    on_bad_row: OnBadRow = "stop",
) -> RatedImages:
    """Read ratings of one's own, and open the store of the rated images.

    Args:
        ratings: A table with columns of images and ratings, and optionally of users, prompts and splits, in any of the
            forms of ``files.SUFFIXES``; a folder or zip with such a table in it; or one with folders of images that are
            named by their ratings (``own_tables.open_table``, whose result may be given too). Other columns are kept.
            Rows without a rating are left out.
        images: The folder or zip that the paths are relative to; None is the folder of the table.
        columns: Our column names to those of the table, where it has unusual names, e.g. ``{"user_id": "worker"}``.
        user: Who rated, if there is no column of users; None is "me".
        scale: The range of ratings; None is 1 to 5, or what ``scales.guess_scale`` finds.
        raters: Demographics: a table with the same column of user ids and one row per user, or a data frame indexed by
            user.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

    Raises:
        DataError: A file cannot be read, or a row is wrong; names file, row, value and remedy.
    """
    table = ratings if isinstance(ratings, OwnTable) else open_table(ratings, columns or {}, on_bad_row)
    told = columns or {}
    found = rating_columns(table.rows, told, table.source)
    rows = with_numbers(select_columns(table.rows, found, told, user, table.source), (*TEXT, "rating"))
    if not (raters is None or isinstance(raters, pd.DataFrame)):
        raters = _read_raters(Path(raters), found.theirs.get("user_id", "user_id"))
    store = open_files(images) if images is not None else table.files
    part = SourceTable(table.source, rows, {}, table.skipped)
    return build_rated_images([part], table.source, store, scale, raters, on_bad_row, leave_out_unrated=True)


def _read_raters(file: Path, user: str) -> pd.DataFrame:
    rows, _ = read_file(file, content="raters")
    key = user_column(rows, user, str(file))
    return with_numbers(rows, [key]).rename(columns={key: "user_id"}).set_index("user_id")
