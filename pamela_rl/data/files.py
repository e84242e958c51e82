"""Reading tables of the usual forms, and writing CSV, Parquet and JSON lines. Malformed lines are reported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from pamela_rl.data.checks import OnBadRow, SkippedRows
from pamela_rl.data.delimited import column_names, parse_delimited, tidy
from pamela_rl.data.json_tables import parse_json
from pamela_rl.data.workbooks import parse_workbook
from pamela_rl.errors import DataError

WRITTEN_SUFFIXES = (".csv", ".parquet", ".jsonl")
SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".json", ".jsonl", ".ndjson", ".parquet")


def is_table(name: str) -> bool:
    """Return whether a file name ends as tables do, in any case. Hidden files and Excel's lock files are none."""
    path = PurePath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith((".", "~$"))


def read_file(
    file: Path, text: Collection[str] | None = None, on_bad_row: OnBadRow = "stop", content: str = "ratings"
) -> tuple[pd.DataFrame, list[SkippedRows]]:
    """Read a table, and list the malformed lines that were skipped; see ``parse``.

    Raises:
        DataError: The file cannot be read, or a line is malformed and ``on_bad_row`` is "stop".
    """
    check_suffix(file, content)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the {content} in {file} ({error}); correct the path.") from error
    return parse(data, file.suffix, text, str(file), on_bad_row, content)


def check_suffix(file: Path, content: str = "ratings", suffixes: Collection[str] = SUFFIXES) -> None:
    """Check the ending of a file name, in any case.

    Raises:
        DataError: Names the ending.
    """
    if file.suffix.lower() not in suffixes:
        raise DataError(
            f"{file} ends in {file.suffix!r}; {content} are kept in {', '.join(suffixes)}: save the table as one of them."
        )


def parse(
    data: bytes,
    suffix: str,
    text: Collection[str] | None,
    source: str,
    on_bad_row: OnBadRow = "stop",
    content: str = "ratings",
) -> tuple[pd.DataFrame, list[SkippedRows]]:
    """Read a table from bytes. Blanks around headers and cells, and blank rows and columns are removed.

    Args:
        data: Of a file that ends in one of ``SUFFIXES``. The delimiter, the encoding, and the form of JSON are found
            from the content.
        suffix: The ending, in any case.
        text: Columns to keep as text, e.g. ids: '007' is not 7. Other columns whose cells are all numbers become numbers.
            None keeps all text; ``with_numbers`` converts it later.
        source: Names the bytes in messages.
        on_bad_row: What to do with a malformed line: a line with more cells than the header, or a JSON entry that is no
            object.
        content: What the table holds, for messages.

    Returns:
        Rows labelled by their position in the file, from 0, and the skipped lines.

    Raises:
        DataError: The bytes cannot be read, or a line is malformed and ``on_bad_row`` is "stop".
    """
    bad_lines: dict[int, str] = {}
    try:
        if suffix.lower() == ".parquet":
            rows = _parquet(data)
        elif suffix.lower() == ".xlsx":
            rows = parse_workbook(data)
        elif suffix.lower() in (".json", ".jsonl", ".ndjson"):
            rows, bad_lines = parse_json(data)
        else:
            rows, bad_lines = parse_delimited(data, suffix.lower())
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the {content} in {source} ({error}); correct or replace it.") from error
    if text is not None:
        rows = with_numbers(rows, text)
    if not bad_lines:
        return rows, []
    first, reason = next(iter(bad_lines.items()))
    if on_bad_row == "stop":
        more = f" ({len(bad_lines)} rows are wrong in this way.)" if len(bad_lines) > 1 else ""
        raise DataError(f"cannot read the {content} in {source} (row {first + 1}: {reason}); correct it.{more}")
    return rows, [SkippedRows(source, len(bad_lines), first + 1, reason)]


def with_numbers(rows: pd.DataFrame, text: Collection[str]) -> pd.DataFrame:
    """Return the table with numbers in those columns, other than ``text``, whose cells are all numbers or missing."""
    numbers: dict[str, pd.Series[Any]] = {}
    for name in rows.columns.difference(list(text)):
        if isinstance(rows[name].dtype, pd.StringDtype):
            try:
                values = rows[name].astype("float64")
            except ValueError:
                continue
            whole = (values % 1 == 0).all() and (values.abs() < 2**53).all()
            numbers[str(name)] = values.astype("int64") if whole else values
    return rows.assign(**numbers)


def write_file(rows: pd.DataFrame, file: Path) -> None:
    """Write CSV, Parquet or JSON lines, by the ending; ``read_file`` reads them back."""
    check_suffix(file, suffixes=WRITTEN_SUFFIXES)
    if file.suffix == ".csv":
        rows.to_csv(file, index=False)
    elif file.suffix == ".parquet":
        rows.to_parquet(file, index=False)
    else:
        # not with pandas: it writes at most 15 digits and reads them back inexactly, which would change ratings
        objects = rows.astype(object).where(rows.notna(), None)
        names = [str(column) for column in objects.columns]
        with file.open("w", encoding="utf-8", newline="\n") as stream:
            for values in zip(*(objects[column] for column in objects.columns)):
                stream.write(json.dumps(dict(zip(names, values)), ensure_ascii=False, default=str) + "\n")


def _parquet(data: bytes) -> pd.DataFrame:
    rows = pd.read_parquet(io.BytesIO(data))
    if any(name is not None for name in rows.index.names):
        rows = rows.reset_index()
    rows = rows.set_axis(column_names([str(name).strip() for name in rows.columns]), axis="columns")
    categories = {name: str for name, dtype in rows.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}
    return tidy(rows.astype(categories).reset_index(drop=True))
