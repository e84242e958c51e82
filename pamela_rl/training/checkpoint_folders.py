"""Where a run's checkpoints are, without the libraries that read them."""

from __future__ import annotations

from pathlib import Path

from pamela_rl.errors import CheckpointError
from pamela_rl.storage import folder_name

LAST, BEST, KEPT = "checkpoint", "best", "checkpoints"  # folders of a user's run


def checkpoint_folder(run: Path, user_id: str, checkpoint: str) -> Path:
    """Find a checkpoint of a user's run by "last", "best" or its number of iterations.

    Raises:
        CheckpointError: There is none; names those that there are.
    """
    folder = run / "users" / folder_name(user_id)
    found = {name: folder / place for name, place in (("last", LAST), ("best", BEST)) if (folder / place).exists()}
    found |= {str(int(kept.name)): kept for kept in sorted((folder / KEPT).glob("*")) if kept.name.isdecimal()}
    if checkpoint not in found:
        known = ", ".join(found) or "none"
        raise CheckpointError(f"{folder} has no checkpoint {checkpoint!r}; it has: {known}.")
    return found[checkpoint]
