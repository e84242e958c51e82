"""Excel workbooks as tables of text cells."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import date, datetime
from typing import Any

import pandas as pd

from pamela_rl.data.delimited import column_names, tidy

MAX_BYTES = 2**29  # of a workbook, unpacked: 512 MB


def parse_workbook(data: bytes) -> pd.DataFrame:
    """Read the only sheet with content of an ``.xlsx``; every cell becomes text.

    A number that is shown with leading zeros, e.g. by the format "000", keeps them. The header is the first row with
    content. Rows are labelled by their position below it, from 0; empty ones are left out, but count.

    Raises:
        ValueError: It is no workbook, is too large, has no sheet with content, or several.
    """
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"it is {size // 10**6:,} MB unpacked, more than {MAX_BYTES // 2**20} MB; save it as CSV")
        workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, OSError) as error:
        raise ValueError(f"it is no Excel workbook: {error}") from error
    sheets = {sheet.title: [[_text(cell) for cell in row] for row in sheet] for sheet in workbook.worksheets}
    filled = {title: rows for title, rows in sheets.items() if any(any(row) for row in rows)}
    if len(filled) != 1:
        titles = f"the sheets {', '.join(map(repr, filled))} hold" if filled else "no sheet holds"
        raise ValueError(f"{titles} something; keep one sheet, or save it as CSV")
    (cells,) = filled.values()
    start = next(place for place, row in enumerate(cells) if any(row))
    width = max(map(len, cells))
    header, *rows = ([*row, *[""] * (width - len(row))] for row in cells[start:])
    return tidy(pd.DataFrame(rows, columns=column_names(header), dtype=str))


def _text(cell: Any) -> str:
    """Return a cell as Excel shows it, as far as it matters here."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and re.fullmatch("0+", str(cell.number_format)):
        return str(value).zfill(len(cell.number_format))
    if isinstance(value, date | datetime):
        return f"{value:%Y-%m-%d}"
    return str(value).strip()
