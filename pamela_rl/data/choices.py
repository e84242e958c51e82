"""Tables of pairwise choices between two images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pamela_rl.data.checks import (
    OnBadRow,
    Problem,
    SkippedRows,
    as_text,
    check_on_bad_row,
    log_skipped,
    raise_for_problems,
    screen,
    user_text,
)
from pamela_rl.data.choice_values import parse_choices
from pamela_rl.data.files import read_file, write_file
from pamela_rl.data.image_names import FoundImages, image_problems
from pamela_rl.data.images import ImageStore
from pamela_rl.data.ratings import identity_problems, index_by_user, require_columns, rows_of_split, rows_of_user

CHOICES = ("a", "b", "tie")
REQUIRED = ("user_id", "image_a", "image_b", "choice")
IDS = ("user_id", "image_a", "image_b")


@dataclass(frozen=True)
class ChoiceTable:
    """Choices between two images, one per row. A pair may occur several times; every occurrence counts.

    ``choice`` is "a", "b" or "tie". Ties are kept; ``without_ties`` removes them for models that need a winner.
    Questions that were not answered have no row.

    Attributes:
        rows: ``user_id``, ``image_a``, ``image_b`` (text), ``choice``, and optionally ``prompt`` and ``split``.
        raters: Demographics of the users, indexed by ``user_id``; values may be missing.
        source: Where the rows come from, for error messages.
    """

    rows: pd.DataFrame
    raters: pd.DataFrame | None = None
    source: str = "the table of choices"

    def __post_init__(self) -> None:
        require_columns(self.rows, REQUIRED, self.source)
        raise_for_problems(self.rows, choice_problems(self.rows), self.source)
        text = {column: as_text(self.rows[column]) for column in ("image_a", "image_b", "choice")}
        object.__setattr__(self, "rows", self.rows.assign(user_id=user_text(self.rows["user_id"]), **text))
        object.__setattr__(self, "raters", index_by_user(self.raters, self.source))

    @classmethod
    def from_file(cls, path: str | Path, raters: pd.DataFrame | None = None) -> ChoiceTable:
        """Read a table in any of the forms of ``files.SUFFIXES``, as ``screened`` does.

        Raises:
            DataError: The file cannot be read, or a row is wrong; names file, row, value and remedy.
        """
        return cls.screened(path, "stop", raters)[0]

    @classmethod
    def screened(
        cls, path: str | Path, on_bad_row: OnBadRow = "skip", raters: pd.DataFrame | None = None
    ) -> tuple[ChoiceTable, tuple[SkippedRows, ...]]:
        """Read a file and return the valid rows, and the skipped ones with the reason.

        Columns and choices may be written as ``parse_choices`` reads them.

        Raises:
            DataError: The file cannot be read, or a row is wrong and ``on_bad_row`` is "stop".
        """
        rows, broken = read_file(Path(path), None, on_bad_row, "choices")
        return cls.from_rows(rows, str(path), broken, on_bad_row, raters)

    @classmethod
    def from_rows(
        cls,
        rows: pd.DataFrame,
        source: str,
        broken: Sequence[SkippedRows] = (),
        on_bad_row: OnBadRow = "stop",
        raters: pd.DataFrame | None = None,
        *,
        columns: Mapping[str, str] | None = None,
        user: str | None = None,
        images: ImageStore | None = None,
    ) -> tuple[ChoiceTable, tuple[SkippedRows, ...]]:
        """Return the valid rows of a table as it was read, and the skipped ones with the reason.

        Args:
            rows: As ``files.read_file`` gives them without ``text``.
            source: The file, for messages.
            broken: Malformed lines of the file.
            on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.
            raters: Demographics, indexed by user.
            columns: Our column names to those of the file, where they have unusual names.
            user: Who chose, if the table has no column of users; None is "me".
            images: Where the images are; None checks no names of images.

        Raises:
            DataError: A column is missing or ambiguous, or a row is wrong and ``on_bad_row`` is "stop".
        """
        check_on_bad_row(on_bad_row)
        rows = parse_choices(rows, source, columns or {}, user)
        problems = list(choice_problems(rows))
        found = None
        if images is not None:
            found = FoundImages(images, pd.concat([rows["image_a"], rows["image_b"]]).dropna().unique().tolist())
            problems += [problem for name in ("image_a", "image_b") for problem in image_problems(rows, name, found)]
        rows, wrong = screen(rows, problems, source, on_bad_row)
        if found:
            rows = rows.assign(**{name: rows[name].map(found.file) for name in ("image_a", "image_b")})
        log_skipped([*broken, *wrong])
        return cls(rows, raters, source), (*broken, *wrong)

    def to_file(self, path: str | Path) -> None:
        """Write the rows as CSV, Parquet or JSON lines, by the ending of ``path``; ``from_file`` reads them back."""
        write_file(self.rows, Path(path))

    @property
    def user_ids(self) -> list[str]:
        """Users with choices, in order of first appearance."""
        return [str(user) for user in self.rows["user_id"].drop_duplicates()]

    def split(self, name: str) -> ChoiceTable:
        """Return the rows of one of the five splits.

        Raises:
            DataError: There is no such split, or the table has no column ``split``.
        """
        return replace(self, rows=rows_of_split(self.rows, name, self.source))

    def for_user(self, user_id: str) -> ChoiceTable:
        """Return the rows of one user.

        Raises:
            UnknownUserError: There are none.
        """
        return replace(self, rows=rows_of_user(self.rows, user_id, self.source, "choices"))

    def without_ties(self) -> ChoiceTable:
        """Return the rows that are not ties."""
        return replace(self, rows=self.rows[self.rows["choice"] != "tie"])


def choice_problems(rows: pd.DataFrame) -> Iterator[Problem]:
    """Yield all problems of the rows, which have the columns ``REQUIRED``."""
    remedy = "choices are 'a', 'b' or 'tie'; correct it or remove the row"
    yield Problem("choice", ~rows["choice"].isin(CHOICES).to_numpy(dtype=bool), remedy)
    yield from identity_problems(rows, IDS)
    is_same_image = (as_text(rows["image_a"]) == as_text(rows["image_b"])).to_numpy(dtype=bool)
    yield Problem(
        "image_b", is_same_image, "that is image_a too; a choice is between two images: correct or remove the row"
    )
