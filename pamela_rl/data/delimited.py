"""Delimited text as tables of text cells, whatever its encoding and delimiter."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pandas as pd

DELIMITERS = (",", ";", "\t", "|")
SNIFFED_LINES = 100

BYTE_ORDER_MARKS = {  # the longer ones first: UTF-32's begins with UTF-16's
    b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip


def decode_text(data: bytes) -> str:
    """Decode UTF-8 or UTF-16, with or without a byte order mark, and else cp1252, which is Excel's in western Europe.

    Raises:
        ValueError: The bytes are none of these.
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding)
    head = data[:1000]
    if b"\0" in head:  # UTF-16 without a mark: every second byte of plain letters is 0
        return data.decode("utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            raise ValueError("it is neither UTF-8 nor UTF-16 nor cp1252; save it as UTF-8") from None


def parse_delimited(data: bytes, suffix: str) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read delimited text; every cell stays text, without the blanks around it, and empty cells are missing.

    The delimiter is that of a first line ``sep=;``, else the one of comma, semicolon, tab and bar under which most lines
    have as many cells as the header. Blank lines are no rows. A row whose cells are all empty is left out, but counts.

    Args:
        data: The bytes of the file.
        suffix: Its ending; ``.tsv`` prefers tabs.

    Returns:
        Rows labelled by their position in the file, from 0, and the reason for each malformed line by its position: a
        line with more cells than the header, unless they are empty. A line with fewer is a row with missing values.

    Raises:
        ValueError: The header is missing or has the same name twice, a quotation mark is not closed, or the
            first row has more cells than the header.
        csv.Error: A cell is too long.
    """
    text = decode_text(data).lstrip("\ufeff")
    declared = re.match(r'"?sep=(.)"?[ ;,\t]*(\r\n|\r|\n)', text)
    if declared:
        text = text[declared.end() :]
    encoded = text.encode("utf-8")
    del text  # of a large table it would take as much memory again
    delimiter = declared[1] if declared else _sniff(encoded, suffix)
    lines = _lines(encoded, delimiter)
    header = [cell.strip() for cell in next(lines, [])]
    if not any(header):
        raise ValueError("it is empty")
    names = column_names(header)
    first = len(next(lines, []))
    try:
        if first <= len(names):  # pandas would use surplus cells in row 1 as row labels and shift the columns
            return tidy(_pandas(encoded, delimiter, names)), {}
    except pd.errors.ParserError as error:
        _raise_for_open_quote(error)
    return _with_surplus_cells(encoded, delimiter, names)


def _with_surplus_cells(data: bytes, delimiter: str, names: list[str]) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read text in which some line has more cells than the header; surplus cells may be empty."""
    try:
        _pandas(data, delimiter, None, on_bad_lines="skip")
    except pd.errors.ParserError as error:
        _raise_for_open_quote(error)
        raise
    rows, bad_lines, width = {}, {}, len(names)
    for position, cells in enumerate(islice(_lines(data, delimiter), 1, None)):
        if any(cell.strip() for cell in cells[width:]):
            bad_lines[position] = f"it has {len(cells)} cells and the header has {width}"
            if delimiter == ",":
                bad_lines[position] += "; a cell with a comma in it, e.g. a decimal comma, needs quotation marks"
        else:
            rows[position] = [*cells[:width], *[""] * (width - len(cells))]
    if 0 in bad_lines:  # the header may be what is wrong, so this is no matter of single rows
        raise ValueError(f"row 1: {bad_lines[0]}")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names, dtype="str")
    return tidy(table), bad_lines


def _raise_for_open_quote(error: pd.errors.ParserError) -> None:
    if found := re.search(r"EOF inside string starting at row (\d+)", str(error)):
        raise ValueError(f"a quotation mark is opened in row {found[1]} and not closed") from error


def column_names(header: Sequence[str]) -> list[str]:
    """Return the names of columns; nameless ones are called by their place, from 1.

    Raises:
        ValueError: A name occurs twice.
    """
    for name, count in Counter(filter(None, header)).items():
        if count > 1:
            raise ValueError(f"{count} columns are called {name!r}; rename or remove all but one")
    return [name or f"column {place}" for place, name in enumerate(header, 1)]


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """Strip cells, and remove rows without any content and nameless columns without any; row labels are kept."""
    for place in range(rows.shape[1]):
        column = rows.iloc[:, place]
        if isinstance(column.dtype, pd.StringDtype):
            stripped = column.str.strip()
            is_empty = stripped == ""
            rows.isetitem(place, (stripped.mask(is_empty) if is_empty.any() else stripped).array)
    filled = rows.notna()
    nameless = [name for name, full in filled.any().items() if not full and str(name).startswith("column ")]
    return rows.loc[filled.any(axis=1).to_numpy()].drop(columns=nameless)


def _sniff(data: bytes, suffix: str) -> str:
    """Return the delimiter under which most of the first lines are as wide as the header; ties go to the widest."""
    best, chosen = (0.0, 0), "\t" if suffix == ".tsv" else ","
    for delimiter in ("\t", *DELIMITERS) if suffix == ".tsv" else DELIMITERS:
        widths = [len(line) for line in islice(_lines(data, delimiter), SNIFFED_LINES)]
        if widths and widths[0] > 1:
            score = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
            if score > best:
                best, chosen = score, delimiter
    return chosen


def _lines(data: bytes, delimiter: str) -> Iterator[list[str]]:
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
    cells = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
    return (line for line in cells if len(line) > 1 or "".join(line).strip())  # pandas skips empty lines too


def _pandas(data: bytes, delimiter: str, names: list[str] | None, **options: Any) -> pd.DataFrame:
    rows: pd.DataFrame = pd.read_csv(
        io.BytesIO(data),
        sep=delimiter,
        dtype=str,
        keep_default_na=False,
        na_values=[""],
        skipinitialspace=True,
        **options,
    )
    return rows if names is None else rows.set_axis(names, axis="columns")
