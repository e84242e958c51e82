"""Reading and writing tables as CSV, Parquet and JSON lines. Ids are read as text, and malformed lines are reported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pamela_rl.data.checks import OnBadRow, SkippedRows
from pamela_rl.errors import DataError

SUFFIXES = (".csv", ".parquet", ".jsonl")


def check_suffix(file: Path, content: str = "ratings") -> None:
    """Check that a file name ends in .csv, .parquet or .jsonl.

    Raises:
        DataError: Names the ending.
    """
    if file.suffix not in SUFFIXES:
        raise DataError(f"{file} ends in {file.suffix!r}; {content} are kept in {', '.join(SUFFIXES)}.")


def read_file(
    file: Path, text: Collection[str], on_bad_row: OnBadRow = "stop", content: str = "ratings"
) -> tuple[pd.DataFrame, list[SkippedRows]]:
    """Read a table, and list the malformed lines that were skipped.

    Args:
        file: Ends in one of ``SUFFIXES``.
        text: Columns to read as text, i.e. ids: '007' is not 7, and 'NA' may be an id.
        on_bad_row: What to do with a malformed line: a CSV line with more cells than the header, or a JSON line that is
            not an object. A CSV line with fewer cells is a row with missing values.
        content: What the table holds, for messages.

    Returns:
        Rows labelled by their position in the file, from 0, and the skipped lines.

    Raises:
        DataError: The file cannot be read, or a line is malformed and ``on_bad_row`` is "stop".
    """
    check_suffix(file, content)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the {content} in {file} ({error}).") from error
    return parse(data, file.suffix, text, str(file), on_bad_row, content)


def parse(
    data: bytes,
    suffix: str,
    text: Collection[str],
    source: str,
    on_bad_row: OnBadRow = "stop",
    content: str = "ratings",
) -> tuple[pd.DataFrame, list[SkippedRows]]:
    """Read a table from bytes, as ``read_file`` does; ``source`` names them in messages.

    Raises:
        DataError: The bytes cannot be read, or a line is malformed and ``on_bad_row`` is "stop".
    """
    try:
        if suffix == ".parquet":
            return pd.read_parquet(io.BytesIO(data)), []
        rows, bad_lines = _csv(data, text) if suffix == ".csv" else _json_lines(data)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the {content} in {source} ({error}); correct or replace it.") from error
    if not bad_lines:
        return rows, []
    first, reason = next(iter(bad_lines.items()))
    if on_bad_row == "stop":
        more = f" ({len(bad_lines)} rows are wrong in this way.)" if len(bad_lines) > 1 else ""
        raise DataError(f"cannot read the {content} in {source} (row {first + 1}: {reason}); correct it.{more}")
    return rows, [SkippedRows(source, len(bad_lines), first + 1, reason)]


def write_file(rows: pd.DataFrame, file: Path) -> None:
    """Write CSV, Parquet or JSON lines, by the ending; ``read_file`` reads them back."""
    check_suffix(file)
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


def _csv(data: bytes, text: Collection[str]) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the rows, and the reason for each malformed line by its position."""
    cells = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""))
    lines = (len(line) for line in cells if len(line) > 1 or "".join(line).strip())  # pandas skips empty lines
    width, first = next(lines, 0), next(lines, 0)
    if first > width:  # pandas would use the extra cells as row labels and shift the columns
        raise ValueError(f"row 1 has {first} cells and the header has {width}")
    try:
        return _pandas_csv(data, text), {}
    except pd.errors.ParserError:  # some line has too many cells; pandas does not say which
        lengths = [first, *lines]
        bad_lines = {
            position: f"it has {length} cells and the header has {width}"
            for position, length in enumerate(lengths)
            if length > width
        }
        rows = _pandas_csv(data, text, on_bad_lines="skip")
        if not bad_lines or len(rows) + len(bad_lines) != len(lengths):
            raise
    return rows.set_axis(np.setdiff1d(np.arange(len(lengths)), list(bad_lines))), bad_lines


def _pandas_csv(data: bytes, text: Collection[str], **options: Any) -> pd.DataFrame:
    ids = dict.fromkeys(text, str)
    rows: pd.DataFrame = pd.read_csv(io.BytesIO(data), dtype=ids, keep_default_na=False, na_values=[""], **options)
    return rows


def _json_lines(data: bytes) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the rows, and the reason for each malformed line by its position."""
    columns: dict[str, list[Any]] = {}
    positions: list[int] = []
    bad_lines: dict[int, str] = {}
    lines = (line for line in data.split(b"\n") if line.strip())
    for position, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError as error:
            bad_lines[position] = f"{_start(line)} is no JSON: {error}"
            continue
        if not isinstance(row, dict):
            bad_lines[position] = f"{_start(line)} is no JSON object"
            continue
        for name in row:
            if name not in columns:
                columns[name] = [None] * len(positions)
        positions.append(position)
        for name, values in columns.items():
            values.append(row.get(name))
    return pd.DataFrame(columns, index=positions if bad_lines else None), bad_lines


def _start(line: bytes) -> str:
    return repr(line.decode("utf-8", errors="replace")[:40])
