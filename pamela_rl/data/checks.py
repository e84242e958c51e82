"""What is wrong with which rows of a table: found for all rows at once, told by the row's number in its file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pamela_rl.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

OnBadRow = Literal["stop", "skip"]


@dataclass(frozen=True)
class Problem:
    """Rows that are wrong in one way.

    Attributes:
        column: Where the wrong value stands.
        bad: Which rows, ``(n,)``.
        remedy: What is allowed and what to do, to follow the value in a sentence.
    """

    column: str
    bad: NDArray[np.bool_]
    remedy: str


@dataclass(frozen=True)
class SkippedRows:
    """Rows left out because they are wrong in one way.

    Attributes:
        source: The file they stand in.
        count: How many.
        first_row: The first of them, counted from 1 without the header.
        reason: Column, first value and remedy.
    """

    source: str
    count: int
    first_row: int
    reason: str

    def __str__(self) -> str:
        rows = "1 row" if self.count == 1 else f"{self.count} rows"
        return f"{self.source}: {rows} skipped, the first is row {self.first_row}: {self.reason}."


def blank(values: pd.Series[Any]) -> NDArray[np.bool_]:
    """Tell where there is nothing, or nothing but white space."""
    return (values.isna() | (values.astype(str).str.strip() == "")).to_numpy(dtype=bool)


def as_text(values: pd.Series[Any]) -> pd.Series[str]:
    """Turn ids into text, what is missing stays missing; whole numbers that a file format made into floats (7.0 beside a gap) are 7 again."""
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    return values.astype(str)


def row_number(rows: pd.DataFrame, place: int) -> int:
    """Count from 1 without the header; parts of a table keep the row labels of the whole."""
    return (int(str(rows.index[place])) if pd.api.types.is_integer_dtype(rows.index) else place) + 1


def refuse(
    rows: pd.DataFrame, problems: Iterable[Problem], source: str, names: Mapping[str, str] | None = None
) -> None:
    """Stop at the first problem that any row has.

    Args:
        rows: The table.
        problems: Looked for in this order.
        source: The file, for the message.
        names: What the file calls a column, where that differs.

    Raises:
        DataError: Names file, row, value and remedy.
    """
    for problem in problems:
        if problem.bad.any():
            count = int(problem.bad.sum())
            raise DataError(
                f"{source}, row {row_number(rows, int(problem.bad.argmax()))}: {_sentence(rows, problem, names)}."
                + (f" ({count} rows are wrong in this way.)" if count > 1 else "")
            )


def screen(
    rows: pd.DataFrame,
    problems: Iterable[Problem],
    source: str,
    on_bad_row: OnBadRow = "stop",
    names: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, list[SkippedRows]]:
    """Return the rows that are right, with their labels, and what was left out; a row counts under its first problem.

    Raises:
        DataError: A row is wrong and ``on_bad_row`` is "stop".
    """
    if on_bad_row == "stop":
        refuse(rows, problems, source, names)
        return rows, []
    right, skipped = np.ones(len(rows), dtype=bool), []
    for problem in problems:
        new = Problem(problem.column, problem.bad & right, problem.remedy)
        right &= ~new.bad
        if new.bad.any():
            first = row_number(rows, int(new.bad.argmax()))
            skipped.append(SkippedRows(source, int(new.bad.sum()), first, _sentence(rows, new, names)))
    return rows[right], skipped


def check_on_bad_row(on_bad_row: str) -> None:
    """Refuse anything but "stop" and "skip".

    Raises:
        ConfigError: It is something else.
    """
    if on_bad_row not in ("stop", "skip"):
        raise ConfigError(f"on_bad_row is {on_bad_row!r}; use 'stop' or 'skip'.")


def log_skipped(skipped: Iterable[SkippedRows]) -> None:
    """Warn of every kind of rows left out."""
    for rows in skipped:
        logger.warning("%s", rows)


def _sentence(rows: pd.DataFrame, problem: Problem, names: Mapping[str, str] | None) -> str:
    value = rows[problem.column].iloc[int(problem.bad.argmax())]
    shown = repr(value) if isinstance(value, str) else value  # the repr of 7 is np.int64(7)
    return f"{(names or {}).get(problem.column, problem.column)} is {shown}; {problem.remedy}"
