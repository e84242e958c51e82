"""Which adapters a run has published, read without the libraries that run them."""

from __future__ import annotations

import json
from pathlib import Path

from pamela_rl.errors import AdapterError

INFO = "adapter.json"


def list_adapters(run: str | Path) -> dict[str, Path]:
    """Map each user id of a run to the folder of their adapter.

    Raises:
        AdapterError: The run holds no adapters.
    """
    found = {}
    for file in sorted(Path(run).glob(f"adapters/*/{INFO}")):
        found[str(json.loads(file.read_text(encoding="utf-8"))["user_id"])] = file.parent
    if not found:
        raise AdapterError(f"no adapters under {Path(run) / 'adapters'}; give the folder of a finished run.")
    return found


def adapter_folder(run: str | Path, user_id: str) -> Path:
    """Return the folder of a user's adapter.

    Raises:
        AdapterError: The run has no adapter of that user.
    """
    adapters = list_adapters(run)
    if user_id not in adapters:
        known = ", ".join(sorted(adapters)[:10])
        raise AdapterError(f"the run {run} has no adapter of user {user_id!r}; it has those of: {known}.")
    return adapters[user_id]


def images_spent(run: str | Path, user_id: str) -> int:
    """Count the pictures drawn to make a person's adapter, as it says itself; 0 where it does not say."""
    facts = json.loads((adapter_folder(run, user_id) / INFO).read_text(encoding="utf-8"))
    return int(facts.get("images_spent", 0))
