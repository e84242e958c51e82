"""What the studio says to people, in English; all of it is written in ``strings.toml``, so that it can be translated."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

STRINGS = Path(__file__).with_name("strings.toml")


@cache
def tables() -> dict[str, Any]:
    """Return all strings by table, e.g. ``tables()["rate"]["title"]``; read only."""
    return tomllib.loads(STRINGS.read_text(encoding="utf-8"))


def say(key: str, **values: object) -> str:
    """Return a string with its values filled in.

    Args:
        key: Table and name with dots between, e.g. "rate.title".
        values: Of the ``{names}`` inside. Where the string has a form ``one`` and a form ``other``, ``n`` chooses.

    Raises:
        KeyError: There is no such string, or a value is missing.
    """
    found: Any = tables()
    for part in key.split("."):
        found = found[part]
    if isinstance(found, dict):
        found = found["one" if values["n"] == 1 else "other"]
    return str(found).format(**values)
