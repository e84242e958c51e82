"""How far a training is, as its record says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pamela_rl.storage import folder_name, read_metrics
from pamela_rl.studio.adapters import RUN

SHEETS = "validation"


def course(folder: Path, person_id: str, num_iterations: int) -> dict[str, Any]:
    """Read how far a training is.

    Args:
        folder: Of the job.
        person_id: Whose adapter.
        num_iterations: Of the whole training.
    """
    user = folder / RUN / "users" / folder_name(person_id)
    rows, checks = read_metrics(user / "metrics.jsonl"), read_metrics(user / "validation.jsonl")
    seconds = [row["time/seconds"] for row in rows if row.get("time/seconds")]
    curve = [
        {"iteration": row["iteration"], "reward": row.get("eval/reward_mean"), "judge": row.get("eval/judge_mean")}
        for row in checks
    ]
    return {
        "share": len(rows) / (num_iterations + 1),  # the samples at the end take about as long as one more
        "iteration": len(rows),
        "of": num_iterations,
        "seconds_left": round((num_iterations + 1 - len(rows)) * _middle(seconds)) if seconds else None,
        "seconds_each": _middle(seconds) if seconds else None,
        "curve": curve,
        "sheets": sorted(int(sheet.stem) for sheet in (user / SHEETS).glob("*.png")),
    }


def sheet_file(folder: Path, person_id: str, iteration: int) -> Path:
    """Return where the same pictures are as they were after so many iterations."""
    return folder / RUN / "users" / folder_name(person_id) / SHEETS / f"{iteration:06d}.png"


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
