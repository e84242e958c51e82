"""The common result of all sources, and how tables of a source are checked and joined into it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pamela_rl.data.checks import (
    OnBadRow,
    Problem,
    SkippedRows,
    as_text,
    blank,
    check_on_bad_row,
    log_skipped,
    screen,
    user_text,
)
from pamela_rl.data.image_names import FoundImages, image_problems
from pamela_rl.data.images import ImageStore
from pamela_rl.data.ratings import REQUIRED, RatingScale, RatingTable, rating_problems
from pamela_rl.data.scales import guess_scale, parse_ratings
from pamela_rl.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RatedImages:
    """Ratings and the store of the rated images.

    Attributes:
        table: One rating per row; a user who rated an image twice has two rows.
        images: Store of the images in the table.
        skipped: Skipped rows; empty unless ``on_bad_row`` was "skip".
    """

    table: RatingTable
    images: ImageStore
    skipped: tuple[SkippedRows, ...] = ()

    @property
    def image_ids(self) -> list[str]:
        """Every rated image once, in order of first appearance."""
        return [str(image) for image in self.table.rows["image"].drop_duplicates()]

    def iter_images(self) -> Iterator[tuple[str, Image.Image]]:
        """Iterate over ids and decoded images, each image once.

        Raises:
            DataError: An image is broken; names it.
        """
        return ((image, self.images.open(image)) for image in self.image_ids)

    def split(self, name: str) -> RatedImages:
        """Return one of the five splits.

        Raises:
            DataError: There is no such split, or the table has none.
        """
        return replace(self, table=self.table.split(name))

    def for_user(self, user_id: str) -> RatedImages:
        """Return the ratings of one user.

        Raises:
            UnknownUserError: There are none.
        """
        return replace(self, table=self.table.for_user(user_id))


@dataclass(frozen=True)
class SourceTable:
    """Rows of one file.

    Attributes:
        source: The file, for messages.
        rows: As in the file, labelled by their position in it.
        columns: Column names of a rating table to those of the file, where they differ.
        skipped: Malformed lines of the file.
    """

    source: str
    rows: pd.DataFrame
    columns: Mapping[str, str]
    skipped: list[SkippedRows]

    def renamed(self) -> pd.DataFrame:
        """Return the rows with our column names. Another column that already has such a name becomes "… in file".

        Raises:
            DataError: A column is missing.
        """
        columns = {**dict.fromkeys(REQUIRED, ""), **self.columns}
        source_names = {ours: theirs or ours for ours, theirs in columns.items()}
        for ours, theirs in source_names.items():
            if theirs not in self.rows.columns:
                available = ", ".join(repr(str(column)) for column in self.rows.columns)
                role = "" if ours == theirs else f" for {ours}"
                raise DataError(
                    f"{self.source} has no column {theirs!r}{role}; it has {available}. "
                    f"Say which it is with columns={{{ours!r}: …}}, or name it so in the file."
                )
        others = {ours: f"{ours} in file" for ours in source_names if ours not in source_names.values()}
        return self.rows.rename(columns={**others, **{theirs: ours for ours, theirs in source_names.items()}})


def build_rated_images(
    parts: Iterable[SourceTable],
    source: str,
    images: ImageStore,
    scale: RatingScale | None = None,
    raters: pd.DataFrame | None = None,
    on_bad_row: OnBadRow = "stop",
    leave_out_unrated: bool = False,
) -> RatedImages:
    """Check the rows of each table and join the valid ones.

    Ratings may be written with decimal commas or in words (``scales.parse_ratings``), and names of images may differ
    from those of the files as far as ``image_names.ImageNames`` allows; the table then has the names of the files.

    Args:
        parts: The tables.
        source: Names them in messages.
        images: Where the images are.
        scale: The range of ratings; None is 1 to 5, or what ``scales.guess_scale`` finds, which is printed.
        raters: Demographics, indexed by user.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.
        leave_out_unrated: Rows without a rating are left out and their number is printed; else they are bad rows.

    Raises:
        DataError: A row is wrong and ``on_bad_row`` is "stop", or no row is left.
        ConfigError: ``on_bad_row`` is neither "stop" nor "skip".
    """
    check_on_bad_row(on_bad_row)
    parts = list(parts)
    rows = pd.concat([part.renamed() for part in parts], keys=range(len(parts)))
    ratings, in_words = parse_ratings(rows["rating"], scale)
    rows = rows.assign(user_id=user_text(rows["user_id"]), image=as_text(rows["image"]), rating=ratings)
    if leave_out_unrated:
        rows = _rated(rows, source)
    if scale is None and (guessed := guess_scale(rows["rating"], in_words)):
        print(f"{source}: ratings are taken to run from {guessed.low:g} to {guessed.high:g}; source.scale overrides.")
        scale = guessed
    scale, skipped, kept = scale or RatingScale(), [], []
    found = FoundImages(images, rows["image"].dropna().unique().tolist())
    for number, part in enumerate(parts):
        mine = rows[rows.index.get_level_values(0) == number].droplevel(0)
        mine, wrong = screen(mine, _problems(mine, scale, found), part.source, on_bad_row, part.columns)
        kept.append(mine.assign(image=mine["image"].map(found.file)))
        skipped += [*part.skipped, *wrong]
    log_skipped(skipped)
    rows = pd.concat(kept, ignore_index=True) if len(kept) > 1 else kept[0]
    if rows.empty:
        raise DataError(f"{source} holds no rating" + (" that is right; see above." if skipped else "."))
    return RatedImages(RatingTable(rows, scale, raters, source), images, tuple(skipped))


def collect_raters(rows: pd.DataFrame, user: str, columns: Mapping[str, str], source: str) -> pd.DataFrame:
    """Collect demographics that are repeated in every rating; the first value of each user counts.

    Args:
        rows: One rating per row.
        user: The column of user ids.
        columns: Columns to take, to their new names; missing columns are ignored.
        source: The file, for the warning about users with two different values.
    """
    given = rows[rows[user].notna()]
    reported = {ours: _parse_values(given[theirs]) for theirs, ours in columns.items() if theirs in given.columns}
    by_user = pd.DataFrame(reported, index=given.index).groupby(user_text(given[user]).rename("user_id"), sort=False)
    for column, count in (by_user.nunique() > 1).sum().items() if reported else ():
        if count:
            logger.warning("%s: %d people give more than one %s; the first is taken.", source, count, column)
    return by_user.first()


def _parse_values(values: pd.Series[Any]) -> pd.Series[Any]:
    """Convert the missing-value strings of R and pandas to missing values, and numeric columns to numbers."""
    given = values.mask(values.isin(["", "NA", "NaN", "nan"]))
    numbers = pd.to_numeric(given, errors="coerce")
    return numbers if (numbers.notna() == given.notna()).all() else given


def _rated(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the rows with a rating."""
    unrated = blank(rows["rating"])
    if unrated.all() and len(rows):
        raise DataError(
            f"{source} holds no rating yet: all {len(rows)} of its rows have an empty one; fill in ratings, "
            "e.g. 1 to 5, or liked and disliked."
        )
    if unrated.any():
        print(f"{source}: {int(unrated.sum()):,} of {len(rows):,} rows are not rated and are left out.")
        rows = rows[~unrated]
        if rows["rating"].dtype == np.float64 and (rows["rating"] % 1 == 0).all():
            rows = rows.astype({"rating": np.int64})  # messages show 6, not 6.0
    return rows


def _problems(rows: pd.DataFrame, scale: RatingScale, images: FoundImages) -> Iterator[Problem]:
    yield from rating_problems(rows, scale)
    yield from image_problems(rows, "image", images)
