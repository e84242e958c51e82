"""Tables as CSV, Parquet and JSON lines: ids are read as the text they are, and lines that are no row are named."""

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
    """Refuse endings that are neither CSV, Parquet nor JSON lines.

    Raises:
        DataError: Names the ending.
    """
    if file.suffix not in SUFFIXES:
        raise DataError(f"{file} ends in {file.suffix!r}; {content} are kept in {', '.join(SUFFIXES)}.")


def read_file(
    file: Path, text: Collection[str], on_bad_row: OnBadRow = "stop", content: str = "ratings"
) -> tuple[pd.DataFrame, list[SkippedRows]]:
    """Read a table and say which lines were left out because they are no row.

    Args:
        file: Ends in one of ``SUFFIXES``.
        text: Columns that hold ids: '007' is not 7, and somebody may be called 'NA'.
        on_bad_row: What to do with a line that is no row: a CSV line with more cells than the header, a JSON line
            that is no object. (A CSV line with fewer cells is a row with gaps.)
        content: What the table holds, for messages.

    Returns:
        Rows labelled by their place in the file, from 0; and the lines skipped.

    Raises:
        DataError: The file cannot be read, or a line is no row and ``on_bad_row`` is "stop".
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
    """Read a table out of the bytes of ``source``, as ``read_file`` does.

    Raises:
        DataError: The bytes are no such table, or a line is no row and ``on_bad_row`` is "stop".
    """
    try:
        if suffix == ".parquet":
            return pd.read_parquet(io.BytesIO(data)), []
        rows, faults = _csv(data, text) if suffix == ".csv" else _json_lines(data)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the {content} in {source} ({error}); correct or replace it.") from error
    if not faults:
        return rows, []
    first, reason = next(iter(faults.items()))
    if on_bad_row == "stop":
        more = f" ({len(faults)} rows are wrong in this way.)" if len(faults) > 1 else ""
        raise DataError(f"cannot read the {content} in {source} (row {first + 1}: {reason}); correct it.{more}")
    return rows, [SkippedRows(source, len(faults), first + 1, reason)]


def write_file(rows: pd.DataFrame, file: Path) -> None:
    """Write CSV, Parquet or JSON lines, by the ending; ``read_file`` reads them back."""
    check_suffix(file)
    if file.suffix == ".csv":
        rows.to_csv(file, index=False)
    elif file.suffix == ".parquet":
        rows.to_parquet(file, index=False)
    else:
        # not by pandas: it writes 15 digits at most and reads inexactly, which changes ratings
        known = rows.astype(object).where(rows.notna(), None)
        names = [str(column) for column in known.columns]
        with file.open("w", encoding="utf-8", newline="\n") as stream:
            for values in zip(*(known[column] for column in known.columns)):
                stream.write(json.dumps(dict(zip(names, values)), ensure_ascii=False, default=str) + "\n")


def _csv(data: bytes, text: Collection[str]) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the rows, and the lines that are none: place to reason."""
    cells = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""))
    lines = (len(line) for line in cells if len(line) > 1 or "".join(line).strip())  # pandas passes over empty lines
    width, first = next(lines, 0), next(lines, 0)
    if first > width:  # pandas would take the surplus for row labels and move every cell
        raise ValueError(f"row 1 has {first} cells and the header has {width}")
    try:
        return _pandas_csv(data, text), {}
    except pd.errors.ParserError:  # some line has too many cells; pandas does not say which row that is
        lengths = [first, *lines]
        faults = {
            place: f"it has {length} cells and the header has {width}"
            for place, length in enumerate(lengths)
            if length > width
        }
        rows = _pandas_csv(data, text, on_bad_lines="skip")
        if not faults or len(rows) + len(faults) != len(lengths):
            raise
    return rows.set_axis(np.setdiff1d(np.arange(len(lengths)), list(faults))), faults


def _pandas_csv(data: bytes, text: Collection[str], **options: Any) -> pd.DataFrame:
    ids = dict.fromkeys(text, str)
    rows: pd.DataFrame = pd.read_csv(io.BytesIO(data), dtype=ids, keep_default_na=False, na_values=[""], **options)
    return rows


def _json_lines(data: bytes) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the rows, and the lines that are none: place to reason."""
    columns: dict[str, list[Any]] = {}
    places: list[int] = []
    faults: dict[int, str] = {}
    lines = (line for line in data.split(b"\n") if line.strip())
    for place, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError as error:
            faults[place] = f"{_start(line)} is no JSON: {error}"
            continue
        if not isinstance(row, dict):
            faults[place] = f"{_start(line)} is no JSON object"
            continue
        for name in row:
            if name not in columns:
                columns[name] = [None] * len(places)
        places.append(place)
        for name, values in columns.items():
            values.append(row.get(name))
    return pd.DataFrame(columns, index=places if faults else None), faults


def _start(line: bytes) -> str:
    return repr(line.decode("utf-8", errors="replace")[:40])
