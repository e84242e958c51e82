"""Who liked what: one table, whatever the source, with the row named when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError

from pamela_rl.errors import DataError, UnknownUserError

SPLITS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
REQUIRED = ("user_id", "image", "rating")


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
    """Ratings, one a row.

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

    def _refuse(self, bad: pd.Series[bool], column: str, remedy: str) -> None:
        if bad.any():
            place = int(bad.to_numpy().argmax())
            value = self.rows[column].iloc[place]
            raise DataError(
                f"{self.source}, row {place + 1}: {column} is {value!r}; {remedy}."
                + (f" ({int(bad.sum())} rows are wrong in this way.)" if bad.sum() > 1 else "")
            )

    @classmethod
    def from_file(
        cls, path: str | Path, scale: RatingScale | None = None, raters: pd.DataFrame | None = None
    ) -> RatingTable:
        """Read CSV, Parquet or JSON lines.

        Raises:
            DataError: The file cannot be read, or a row is wrong; names file, row, value and remedy.
        """
        file = Path(path)
        readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": lambda f: pd.read_json(f, lines=True)}
        if file.suffix not in readers:
            raise DataError(f"{file} ends in {file.suffix!r}; ratings are read from {', '.join(readers)}.")
        try:
            rows = readers[file.suffix](file)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read the ratings in {file} ({error}).") from error
        if "user_id" in rows.columns:
            rows["user_id"] = rows["user_id"].astype("string").astype(object)
        return cls(rows, scale or RatingScale(), raters, str(file))

    def check_images(self, folder: str | Path) -> None:
        """Open every picture once.

        Raises:
            DataError: One is missing or broken; names its row.
        """
        for image in self.rows["image"].drop_duplicates():
            path = Path(folder) / str(image)
            row = int((self.rows["image"] == image).to_numpy().argmax()) + 1
            try:
                with Image.open(path) as picture:
                    picture.load()
            except FileNotFoundError:
                raise DataError(f"{self.source}, row {row}: the image {path} does not exist.") from None
            except (UnidentifiedImageError, OSError, ValueError) as error:
                raise DataError(
                    f"{self.source}, row {row}: the image {path} cannot be opened ({error}); replace or remove it."
                ) from error

    @property
    def user_ids(self) -> list[str]:
        """Everyone who rated, in order of first appearance."""
        return [str(user) for user in self.rows["user_id"].drop_duplicates()]

    def split(self, name: str) -> RatingTable:
        """Return the rows of one of the five splits."""
        if name not in SPLITS:
            raise DataError(f"there is no split {name!r}; splits are {', '.join(SPLITS)}.")
        return RatingTable(self.rows[self.rows["split"] == name], self.scale, self.raters, self.source)

    def for_user(self, user_id: str) -> RatingTable:
        """Return one person's rows.

        Raises:
            UnknownUserError: Nobody of that id rated.
        """
        rows = self.rows[self.rows["user_id"] == user_id]
        if rows.empty:
            some = ", ".join(self.user_ids[:5])
            raise UnknownUserError(f"{self.source} has no ratings of user {user_id!r}; it has those of {some}, …")
        return RatingTable(rows, self.scale, self.raters, self.source)
