"""The table of ratings and its scale. Errors name the row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pamela_rl.data.checks import Problem, as_text, blank, raise_for_problems, user_text
from pamela_rl.data.files import SUFFIXES, read_file, write_file
from pamela_rl.errors import DataError, UnknownUserError

__all__ = ["SPLITS", "SUFFIXES", "RatingScale", "RatingTable"]

SPLITS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
REQUIRED = ("user_id", "image", "rating")
TEXT = ("user_id", "image", "prompt", "split")  # columns that never become numbers


@dataclass(frozen=True)
class RatingScale:
    """The range of ratings.

    Attributes:
        low: The lowest rating.
        high: The highest rating.
        step: Distance between neighbouring ratings, 0 for a slider. None means 1 for scales of at least three whole
            numbers (stars, 1 to 7), else 0.
    """

    low: float = 1.0
    high: float = 5.0
    step: float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise DataError(f"the rating scale runs from {self.low} to {self.high}; the first must be lower.")
        if self.step is not None and not 0 <= self.step <= self.high - self.low:
            raise DataError(
                f"the step of the rating scale is {self.step}; use 0 for a slider, or at most {self.high - self.low:g}."
            )

    @property
    def resolution(self) -> float:
        """The distance between neighbouring ratings, 0 for a slider."""
        if self.step is None:
            return 1.0 if self.high - self.low >= 2 and self.low == round(self.low) else 0.0
        return self.step


@dataclass(frozen=True)
class RatingTable:
    """Ratings, one per row. Ids are converted to text, ratings to numbers. Messages count rows from 1, without header.

    Attributes:
        rows: ``user_id`` (text), ``image`` (path or id), ``rating`` (number), and optionally ``prompt`` and ``split``.
        scale: The range of ratings.
        raters: Demographics of the users, indexed by ``user_id``; values may be missing.
        source: Where the rows come from, for error messages.
    """

    rows: pd.DataFrame
    scale: RatingScale = RatingScale()
    raters: pd.DataFrame | None = None
    source: str = "the rating table"

    def __post_init__(self) -> None:
        require_columns(self.rows, REQUIRED, self.source)
        raise_for_problems(self.rows, rating_problems(self.rows, self.scale), self.source)
        text = {"user_id": user_text(self.rows["user_id"]), "image": as_text(self.rows["image"])}
        object.__setattr__(self, "rows", self.rows.assign(rating=_numbers(self.rows["rating"]), **text))
        object.__setattr__(self, "raters", index_by_user(self.raters, self.source))

    @classmethod
    def from_file(
        cls, path: str | Path, scale: RatingScale | None = None, raters: pd.DataFrame | None = None
    ) -> RatingTable:
        """Read a table whose columns have our names, in any of the forms of ``SUFFIXES``.

        Raises:
            DataError: The file cannot be read, or a row is wrong; names file, row, value and remedy.
        """
        rows, _ = read_file(Path(path), TEXT)
        return cls(rows, scale or RatingScale(), raters, str(path))

    def to_file(self, path: str | Path) -> None:
        """Write the rows as CSV, Parquet or JSON lines, by the ending of ``path``; ``from_file`` reads them back."""
        write_file(self.rows, Path(path))

    @property
    def user_ids(self) -> list[str]:
        """Users with ratings, in order of first appearance."""
        return [str(user) for user in self.rows["user_id"].drop_duplicates()]

    def split(self, name: str) -> RatingTable:
        """Return the rows of one of the five splits.

        Raises:
            DataError: There is no such split, or the table has no column ``split``.
        """
        return replace(self, rows=rows_of_split(self.rows, name, self.source))

    def for_user(self, user_id: str) -> RatingTable:
        """Return the rows of one user.

        Raises:
            UnknownUserError: There are none.
        """
        return replace(self, rows=rows_of_user(self.rows, user_id, self.source))


def require_columns(rows: pd.DataFrame, columns: tuple[str, ...], source: str) -> None:
    """Check that a table has these columns.

    Raises:
        DataError: Names the missing and the existing columns.
    """
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise DataError(
            f"{source} has no column {' and no column '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, rows.columns))}. Name the columns {', '.join(columns)}."
        )


def rating_problems(rows: pd.DataFrame, scale: RatingScale) -> Iterator[Problem]:
    """Yield all problems of the rows, which have the columns ``REQUIRED``."""
    numbers = _numbers(rows["rating"])
    yield Problem(
        "rating",
        ~((numbers >= scale.low) & (numbers <= scale.high)),  # NaN fails both comparisons
        f"ratings run from {scale.low:g} to {scale.high:g}; correct it or give the scale you used (source.scale)",
    )
    yield from identity_problems(rows, ("user_id", "image"))


def identity_problems(rows: pd.DataFrame, ids: tuple[str, ...]) -> Iterator[Problem]:
    """Yield missing ids and unknown splits."""
    for column in ids:
        yield Problem(column, blank(rows[column]), "fill it in or remove the row")
    if "split" in rows.columns:
        yield Problem("split", ~rows["split"].isin(SPLITS).to_numpy(dtype=bool), f"splits are {', '.join(SPLITS)}")


def rows_of_split(rows: pd.DataFrame, name: str, source: str) -> pd.DataFrame:
    """Return the rows of one split.

    Raises:
        DataError: There is no such split, or no column ``split``.
    """
    if name not in SPLITS:
        raise DataError(f"there is no split {name!r}; splits are {', '.join(SPLITS)}.")
    if "split" not in rows.columns:
        raise DataError(f"{source} has no column 'split'; add one that names {', '.join(SPLITS)}.")
    return rows[rows["split"] == name]


def rows_of_user(rows: pd.DataFrame, user_id: str, source: str, content: str = "ratings") -> pd.DataFrame:
    """Return the rows of one user.

    Raises:
        UnknownUserError: There are none.
    """
    mine = rows[rows["user_id"] == user_id]
    if mine.empty:
        some = ", ".join(str(user) for user in rows["user_id"].drop_duplicates()[:5])
        raise UnknownUserError(f"{source} has no {content} of user {user_id!r}; it has those of {some}, …")
    return mine


def _numbers(values: pd.Series[Any]) -> NDArray[np.float64]:
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def index_by_user(raters: pd.DataFrame | None, source: str) -> pd.DataFrame | None:
    """Convert the index of a table of users to text.

    Raises:
        DataError: A user has two rows.
    """
    if raters is None:
        return None
    raters = raters.set_axis(pd.Index(user_text(raters.index.to_series()), name=raters.index.name))
    if raters.index.has_duplicates:
        duplicate = raters.index[raters.index.duplicated()][0]
        raise DataError(f"the raters of {source} name user {duplicate!r} more than once; keep one row a person.")
    return raters
