"""Who has which slot of a company: kept in the run's folder, since a slot decides how numbers round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pamela_rl.storage import ensure_writable, write_text, writing

SLOTS = "slots.json"  # in the run's folder


def slots_of(run: Path, users: Sequence[str], together: int) -> dict[str, int]:
    """Return each user's slot, and record it in the run's folder, so that nobody's changes with who is asked for later.

    With another number of people at a time slots are given anew.
    """
    path = ensure_writable(run) / SLOTS
    slots = _recorded(run)["slots"] if people_at_a_time(run) == together else {}
    for user in users:
        slots.setdefault(user, len(slots) % together)
    with writing("the people's slots", path):
        write_text(path, json.dumps({"together": together, "slots": slots}, indent=1) + "\n")
    return slots


def people_at_a_time(run: Path) -> int | None:
    """Return how many people the run trains at a time; None for one that has not begun."""
    recorded = _recorded(run)
    return int(recorded["together"]) if recorded else None


def _recorded(run: Path) -> dict[str, Any]:
    path = run / SLOTS
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content
