"""How a training ended for each of many people: one table, read from their folders."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pamela_rl.diffusion.saved_adapters import INFO, images_spent
from pamela_rl.storage import folder_name, read_metrics, writing

FINISHED = "finished.json"  # in a person's folder, once their adapter is published
FAILED = "failed.json"  # there, with the error that ended the last try
TABLE = "users.parquet"  # in the run's folder
_JUDGED = "eval/judge_mean"


@dataclass(frozen=True)
class Outcome:
    """One person's.

    Attributes:
        user: Whose.
        status: "published", "failed", or "open" where another process or the next command has it.
        iterations: Of training.
        ended: What ended it: the settings, the judge, or an error's text.
        gain: Mean by the judge of the adapter that was kept, minus the base model's; None where no judge looked.
        seconds: Of its iterations, by the clock; people who train together share them.
        images: Drawn to make the adapter, validation's too; 0 without one.
        adapter: Its folder, or None.
    """

    user: str
    status: str
    iterations: int
    ended: str
    gain: float | None
    seconds: float
    images: int
    adapter: str | None


def outcome_of(run: Path, user: str) -> Outcome:
    """Read a person's outcome from their folder."""
    folder, adapter = run / "users" / folder_name(user), run / "adapters" / folder_name(user)
    rows, judged, settings = read_metrics(folder / "metrics.jsonl"), _judge_means(folder), _read(folder / "run.json")
    published = (folder / FINISHED).exists() and (adapter / INFO).exists()
    error = _read(folder / FAILED).get("error")
    status = "failed" if error is not None else "published" if published else "open"
    return Outcome(
        user=user,
        status=status,
        iterations=len(rows),
        ended="" if status == "open" else _reason(settings, len(rows), error),
        gain=(max(judged[1:]) if settings.get("validation.patience") else judged[-1]) - judged[0]
        if len(judged) > 1
        else None,
        seconds=round(sum(row.get("time/seconds") or 0.0 for row in rows), 1),
        images=images_spent(run, user) if (adapter / INFO).exists() else 0,
        adapter=str(adapter) if (adapter / INFO).exists() else None,
    )


def write_outcomes(run: Path, outcomes: Sequence[Outcome]) -> None:
    """Write ``users.parquet``.

    Raises:
        StorageError: It cannot be written.
    """
    path = run / TABLE
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # several workers may write it
    with writing("the table of people", path):
        pd.DataFrame([asdict(outcome) for outcome in outcomes]).to_parquet(partial)
        partial.replace(path)


def read_outcomes(run: Path) -> list[Outcome]:
    """Read how it stands with everybody in ``users.parquet``."""
    return [outcome_of(run, str(user)) for user in pd.read_parquet(run / TABLE)["user"]]


def outcome_table(outcomes: Sequence[Outcome], rows: int = 20) -> str:
    """Format the outcomes, those first that are not published; of many, the first ``rows``."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.status == "published")
    shown = [
        {
            "user": outcome.user, "adapter": outcome.status, "iterations": outcome.iterations, "ended by": outcome.ended[:60],
            "gain by the judge": "" if outcome.gain is None else f"{outcome.gain:+.2f}", "seconds": f"{outcome.seconds:.0f}",
            "images": outcome.images,
        }
        for outcome in ordered[:rows]
    ]  # fmt: skip
    published = sum(outcome.status == "published" for outcome in outcomes)
    more = f"\n… and {len(ordered) - rows} more" if len(ordered) > rows else ""
    table = pd.DataFrame(shown).to_string(index=False)
    return f"{table}{more}\n{published} of {len(outcomes)} people have an adapter."


def _judge_means(folder: Path) -> list[float]:
    rows = read_metrics(folder / "validation.jsonl")
    return [float(row[_JUDGED]) for row in rows if row.get(_JUDGED) is not None]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _reason(settings: dict[str, Any], iterations: int, error: str | None) -> str:
    if error is not None:
        return error
    return "the judge" if iterations < int(settings["num_iterations"]) else "as planned"
