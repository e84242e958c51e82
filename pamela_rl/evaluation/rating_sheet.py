"""``ratings.csv`` of images that one user rates: read as it is, extended without touching what is in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pamela_rl.errors import DataError
from pamela_rl.storage import write_text

SHEET = "ratings.csv"
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class RatingSheet:
    """The table as text.

    Attributes:
        columns: Its header, among it ``image`` and ``rating`` in any case.
        rows: Cells of each row, as many as there are columns.
        delimiter: Between cells: a comma, a semicolon or a tab.
        text: The file's text, which new rows are appended to.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    delimiter: str
    text: str

    @classmethod
    def new(cls, columns: Sequence[str]) -> RatingSheet:
        """Return a table without rows."""
        return cls(tuple(columns), (), ",", _csv([columns], ","))

    @classmethod
    def read(cls, path: Path) -> RatingSheet:
        """Read a table, as a spreadsheet program may have saved it: UTF-8, UTF-16 or Windows' Latin; any delimiter.

        Raises:
            DataError: It cannot be read, or has no column ``image`` or none ``rating``.
        """
        try:
            text = _decode(path.read_bytes())
            header = next(iter(text.splitlines()), "")
            delimiter = max(_DELIMITERS, key=header.count)
            lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(line)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as a table ({error}); mend it, or move it elsewhere.") from error
        columns = tuple(name.strip() for name in lines[0]) if lines else ()
        for needed in ("image", "rating"):
            if needed not in _lower(columns):
                raise DataError(
                    f"{path} has no column {needed!r}; it has {', '.join(map(repr, columns)) or 'none'}. Name its columns "
                    "image, prompt and rating, or move it elsewhere to have a new one."
                )
        width = len(columns)
        return cls(columns, tuple(tuple((line + [""] * width)[:width]) for line in lines[1:]), delimiter, text)

    def place(self, column: str) -> int | None:
        """Return the index of a column, in any case, or None."""
        names = _lower(self.columns)
        return names.index(column) if column in names else None

    def values(self, column: str) -> list[str]:
        """Return the cells of a column; empty ones where there is no such column."""
        place = self.place(column)
        return ["" if place is None else row[place].strip() for row in self.rows]

    @property
    def num_rated(self) -> int:
        """Rows with a rating."""
        return sum(bool(rating) for rating in self.values("rating"))

    def extended(self, rows: Sequence[Mapping[str, str]]) -> RatingSheet:
        """Return the table with rows at its end, each a cell by the name of its column; what is in it stays as it is."""
        cells = tuple(tuple(row.get(name, "") for name in _lower(self.columns)) for row in rows)
        text = self.text if self.text.endswith("\n") else self.text + "\n"
        return RatingSheet(self.columns, self.rows + cells, self.delimiter, text + _csv(cells, self.delimiter))

    def write(self, path: Path) -> None:
        """Write the table in UTF-8, whole or not at all."""
        write_text(
            path, self.text if self.text.isascii() else "\ufeff" + self.text
        )  # the mark tells Excel the encoding


def _lower(columns: Sequence[str]) -> list[str]:
    return [name.lower() for name in columns]


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _csv(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return stream.getvalue()
