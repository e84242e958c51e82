"""JSON and JSON lines as tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from pamela_rl.data.delimited import decode_text, tidy

FORMS = "give a list of objects, each with an image and its rating"


def parse_json(data: bytes) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read JSON lines, or one JSON value in any of the usual forms of tables.

    These are a list of objects; an object with one such list in it, e.g. ``{"ratings": […]}``; an object of columns,
    each a list or an object of rows by number; an object of rows by image, ``{"a.png": {"rating": 4}}``; and an object
    of ratings by image, ``{"a.png": 4}``.

    Returns:
        Rows labelled by their position, from 0, and the reason for each malformed line or entry by its position.

    Raises:
        ValueError: It is empty, or JSON of another form.
    """
    text = decode_text(data).removeprefix("\ufeff")
    if not text.strip():
        raise ValueError("it is empty")
    bad: dict[int, str] = {}
    columns: dict[str, list[Any]] = {}
    positions: list[int] = []
    for position, entry in enumerate(_whole(text) or _lines(text)):
        if not isinstance(entry, dict):
            is_line = isinstance(entry, _NoJson)
            bad[position] = str(entry) if is_line else f"{json.dumps(entry)[:40]!r} is no JSON object"
            continue
        for name in entry:
            if name not in columns:
                columns[name] = [None] * len(positions)
        positions.append(position)
        for name, values in columns.items():
            values.append(entry.get(name))
    return tidy(pd.DataFrame(columns, index=positions if bad else None).rename(columns=str.strip)), bad


class _NoJson(str):
    """Why a line is no JSON."""


def _lines(text: str) -> Iterator[Any]:
    """Yield the value of each line that is not blank."""
    for match in re.finditer(r"[^\n]+", text):  # makes no copy of the text
        line = match[0].strip()
        if line:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                yield _NoJson(f"{line[:40]!r} is no JSON: {error}")


def _whole(text: str) -> list[Any] | None:
    """Return the rows of a file that is one JSON value, or None if it is none."""
    try:
        return _entries(json.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError:
        if text.lstrip()[:1] == "[":
            raise
        return None


def _entries(value: Any) -> list[Any]:
    """Return the rows of one JSON value."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or not value:
        return [value]
    tables = [part for part in value.values() if isinstance(part, list) and part and isinstance(part[0], dict)]
    if len(tables) == 1:
        return tables[0]
    parts = list(value.values())
    if all(isinstance(part, list) for part in parts) and len(set(map(len, parts))) == 1:
        return [dict(zip(value, row)) for row in zip(*parts)]
    if all(isinstance(part, dict) for part in parts):
        if all(key.isdecimal() for part in parts for key in part):
            rows = dict.fromkeys(key for part in parts for key in part)
            return [{name: part.get(row) for name, part in value.items()} for row in rows]
        return [{"image": image, **part} for image, part in value.items()]
    if any(isinstance(part, list | dict) for part in parts):
        raise ValueError(f"it is an object with the keys {', '.join(map(repr, list(value)[:5]))}; {FORMS}")
    if all(re.search(r"\.\w{2,5}$", image) for image in value):
        return [{"image": image, "rating": rating} for image, rating in value.items()]
    return [value]
