"""Who liked what: one table, whatever the source, with the row named when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from pamela_rl.errors import DataError, UnknownUserError

SPLITS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
REQUIRED = ("user_id", "image", "rating")
SUFFIXES = (".csv", ".parquet", ".jsonl")


@dataclass(frozen=True)
class RatingScale:
    """The lowest and the highest rating a person could give."""

    low: float = 1.0
    high: float = 5.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise DataError(f"the rating scale runs from {self.low} to {self.high}; the first must be lower.")


@dataclass(frozen=True)
class RatingTable:
    """Ratings, one a row. Ids become text and ratings numbers; messages count rows from 1, without the header.

    Attributes:
        rows: ``user_id`` (text), ``image`` (path or id), ``rating`` (number), and where known ``prompt`` and ``split``.
        scale: What ratings can be.
        raters: What people report of themselves, indexed by ``user_id``; missing values are ordinary.
        source: Where the rows come from, for error messages.
    """

    rows: pd.DataFrame
    scale: RatingScale = RatingScale()
    raters: pd.DataFrame | None = None
    source: str = "the rating table"

    def __post_init__(self) -> None:
        missing = [column for column in REQUIRED if column not in self.rows.columns]
        if missing:
            raise DataError(
                f"{self.source} has no column {' and no column '.join(map(repr, missing))}; it has "
                f"{', '.join(map(repr, self.rows.columns))}. Name the columns {', '.join(REQUIRED)}."
            )
        numbers = pd.to_numeric(self.rows["rating"], errors="coerce")
        self._refuse(
            ~numbers.between(self.scale.low, self.scale.high),
            "rating",
            f"ratings run from {self.scale.low:g} to {self.scale.high:g}; correct it or give the scale you used",
        )
        for column in ("user_id", "image"):
            blank = self.rows[column].isna() | (self.rows[column].astype(str).str.strip() == "")
            self._refuse(blank, column, "fill it in or remove the row")
        if "split" in self.rows.columns:
            self._refuse(~self.rows["split"].isin(SPLITS), "split", f"splits are {', '.join(SPLITS)}")
        text = {column: self.rows[column].astype(str) for column in ("user_id", "image")}
        object.__setattr__(self, "rows", self.rows.assign(rating=numbers.astype(float), **text))
        if self.raters is not None:
            object.__setattr__(self, "raters", self.raters.set_axis(self.raters.index.astype(str)))
            self._refuse_double_raters()

    def _refuse(self, bad: pd.Series[bool], column: str, remedy: str) -> None:
        if bad.any():
            place = int(bad.to_numpy().argmax())
            value = self.rows[column].iloc[place]
            raise DataError(
                f"{self.source}, row {self._row_number(place)}: {column} is {value!r}; {remedy}."
                + (f" ({int(bad.sum())} rows are wrong in this way.)" if bad.sum() > 1 else "")
            )

    def _refuse_double_raters(self) -> None:
        index = pd.Index([]) if self.raters is None else self.raters.index
        if index.has_duplicates:
            twice = index[index.duplicated()][0]
            raise DataError(f"the raters of {self.source} name user {twice!r} more than once; keep one row a person.")

    def _row_number(self, place: int | np.integer[Any]) -> int:
        label = self.rows.index[int(place)]  # parts of a table keep the row labels of the whole
        return (int(str(label)) if pd.api.types.is_integer_dtype(self.rows.index) else place) + 1

    @classmethod
    def from_file(
        cls, path: str | Path, scale: RatingScale | None = None, raters: pd.DataFrame | None = None
    ) -> RatingTable:
        """Read CSV, Parquet or JSON lines.

        Raises:
            DataError: The file cannot be read, or a row is wrong; names file, row, value and remedy.
        """
        file = Path(path)
        _check_suffix(file)
        try:
            rows = _read(file)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read the ratings in {file} ({error}).") from error
        return cls(rows, scale or RatingScale(), raters, str(file))

    def to_file(self, path: str | Path) -> None:
        """Write the rows as CSV, Parquet or JSON lines, by the ending of ``path``; ``from_file`` reads them back."""
        file = Path(path)
        _check_suffix(file)
        if file.suffix == ".csv":
            self.rows.to_csv(file, index=False)
        elif file.suffix == ".parquet":
            self.rows.to_parquet(file, index=False)
        else:
            # 15 digits, the most pandas offers; its default of 10 would change ratings
            self.rows.to_json(file, orient="records", lines=True, double_precision=15)

    def check_images(self, folder: str | Path) -> None:
        """Open every picture once.

        Raises:
            DataError: One is missing or broken; names its row.
        """
        first = (~self.rows["image"].duplicated()).to_numpy().nonzero()[0]
        for place in first:
            path = Path(folder) / str(self.rows["image"].iloc[place])
            row = self._row_number(place)
            try:
                with Image.open(path) as picture:
                    picture.load()
            except FileNotFoundError:
                raise DataError(
                    f"{self.source}, row {row}: the image {path} does not exist; "
                    "paths are relative to the folder of images: correct either."
                ) from None
            # Pillow reports broken PNG chunks as SyntaxError
            except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
                raise DataError(
                    f"{self.source}, row {row}: the image {path} cannot be opened ({error}); replace or remove it."
                ) from error

    @property
    def user_ids(self) -> list[str]:
        """Everyone who rated, in order of first appearance."""
        return [str(user) for user in self.rows["user_id"].drop_duplicates()]

    def split(self, name: str) -> RatingTable:
        """Return the rows of one of the five splits.

        Raises:
            DataError: There is no such split, or the table has no column ``split``.
        """
        if name not in SPLITS:
            raise DataError(f"there is no split {name!r}; splits are {', '.join(SPLITS)}.")
        if "split" not in self.rows.columns:
            raise DataError(f"{self.source} has no column 'split'; add one that names {', '.join(SPLITS)}.")
        return replace(self, rows=self.rows[self.rows["split"] == name])

    def for_user(self, user_id: str) -> RatingTable:
        """Return one person's rows.

        Raises:
            UnknownUserError: Nobody of that id rated.
        """
        rows = self.rows[self.rows["user_id"] == user_id]
        if rows.empty:
            some = ", ".join(self.user_ids[:5])
            raise UnknownUserError(f"{self.source} has no ratings of user {user_id!r}; it has those of {some}, …")
        return replace(self, rows=rows)


def _check_suffix(file: Path) -> None:
    if file.suffix not in SUFFIXES:
        raise DataError(f"{file} ends in {file.suffix!r}; ratings are kept in {', '.join(SUFFIXES)}.")


def _read(file: Path) -> pd.DataFrame:
    """Read ids as the text they are: '007' is not 7, and somebody may be called 'NA'."""
    if file.suffix == ".csv":
        ids = {"user_id": str, "image": str}
        return pd.read_csv(file, dtype=ids, keep_default_na=False, na_values=[""], float_precision="round_trip")
    if file.suffix == ".jsonl":
        # dtype=False alone keeps "007" as text; the rating column is made numeric by the table
        return pd.read_json(file, lines=True, dtype=False, convert_dates=False)
    return pd.read_parquet(file)
