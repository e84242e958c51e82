"""Checks of table rows. Messages name the file, the row number, the value and the remedy."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pamela_rl.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

OnBadRow = Literal["stop", "skip"]


@dataclass(frozen=True)
class Problem:
    """One kind of error and the rows that have it.

    Attributes:
        column: The column of the wrong value.
        mask: True for the wrong rows, ``(n,)``.
        remedy: What is allowed and how to fix it. In messages it follows the value.
        hint: Gives the end of the message for a value, e.g. which one may have been meant.
    """

    column: str
    mask: NDArray[np.bool_]
    remedy: str
    hint: Callable[[object], str] | None = None


@dataclass(frozen=True)
class SkippedRows:
    """Rows that were skipped for one reason.

    Attributes:
        source: The file.
        count: Number of skipped rows.
        first_row: Number of the first one, counted from 1 without the header.
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
    """Return a mask of missing values and of values that are only white space."""
    return (values.isna() | (values.astype(str).str.strip() == "")).to_numpy(dtype=bool)


def as_text(values: pd.Series[Any]) -> pd.Series[str]:
    """Convert ids to text and keep missing values. Whole numbers that were read as floats (7.0 in a column with gaps) become "7"."""
    if pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 == 0).all()):
        values = values.astype("Int64")
    return values.astype(str)


def user_text(values: pd.Series[Any]) -> pd.Series[str]:
    """Convert user ids to text, without the blanks around them and in the Unicode form NFC; missing values are kept."""
    codes, ids = pd.factorize(as_text(values))
    normal = pd.Series([unicodedata.normalize("NFC", str(user)).strip() for user in ids], dtype="str")
    return normal.reindex(codes).set_axis(values.index)


def warn_of_similar_users(users: Iterable[str], source: str) -> None:
    """Warn of users whose ids differ only by case, blanks or the form of their letters: they are two, but may be one."""
    known: dict[str, str] = {}
    for user in users:
        key = " ".join(unicodedata.normalize("NFKC", user).casefold().split())
        if known.setdefault(key, user) != user:
            logger.warning(
                "%s: the users %r and %r differ only in how they are written and count as two people; "
                "write them alike if they are one.",
                source,
                known[key],
                user,
            )


def row_number(rows: pd.DataFrame, position: int) -> int:
    """Return the row number in the file, from 1 without the header. Subsets of a table keep the original row labels."""
    return (int(str(rows.index[position])) if pd.api.types.is_integer_dtype(rows.index) else position) + 1


def raise_for_problems(
    rows: pd.DataFrame, problems: Iterable[Problem], source: str, names: Mapping[str, str] | None = None
) -> None:
    """Raise an error for the first problem that any row has.

    Args:
        rows: The table.
        problems: Checked in this order.
        source: The file, for the message.
        names: Column names of the file, where they differ from ours.

    Raises:
        DataError: Names file, row, value and remedy.
    """
    for problem in problems:
        if problem.mask.any():
            count = int(problem.mask.sum())
            raise DataError(
                f"{source}, row {row_number(rows, int(problem.mask.argmax()))}: {_sentence(rows, problem, names)}."
                + (f" ({count} rows are wrong in this way.)" if count > 1 else "")
            )


def screen(
    rows: pd.DataFrame,
    problems: Iterable[Problem],
    source: str,
    on_bad_row: OnBadRow = "stop",
    names: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, list[SkippedRows]]:
    """Return the valid rows with their labels, and the skipped ones. A row with several problems counts under the first.

    Raises:
        DataError: A row is wrong and ``on_bad_row`` is "stop".
    """
    if on_bad_row == "stop":
        raise_for_problems(rows, problems, source, names)
        return rows, []
    good, skipped = np.ones(len(rows), dtype=bool), []
    for problem in problems:
        new = replace(problem, mask=problem.mask & good)
        good &= ~new.mask
        if new.mask.any():
            first = row_number(rows, int(new.mask.argmax()))
            skipped.append(SkippedRows(source, int(new.mask.sum()), first, _sentence(rows, new, names)))
    return rows[good], skipped


def check_on_bad_row(on_bad_row: str) -> None:
    """Check that the value is "stop" or "skip".

    Raises:
        ConfigError: It is not.
    """
    if on_bad_row not in ("stop", "skip"):
        raise ConfigError(f"on_bad_row is {on_bad_row!r}; use 'stop' or 'skip'.")


def log_skipped(skipped: Iterable[SkippedRows]) -> None:
    """Log one warning for each kind of skipped rows."""
    for rows in skipped:
        logger.warning("%s", rows)


def _sentence(rows: pd.DataFrame, problem: Problem, names: Mapping[str, str] | None) -> str:
    value = rows[problem.column].iloc[int(problem.mask.argmax())]
    text = repr(value) if isinstance(value, str) else value  # the repr of 7 is np.int64(7)
    hint = problem.hint(value) if problem.hint else ""
    return f"{(names or {}).get(problem.column, problem.column)} is {text}; {problem.remedy}{hint}"
