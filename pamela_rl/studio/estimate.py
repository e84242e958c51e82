"""How long a training takes here, and how much memory: its plan, and seconds that were measured on this machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from pamela_rl.studio.database.schema import Job
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.strings import say

START = 25.0  # seconds for loading before the first iteration, and for the samples at the end
SPREAD, GUESSED_SPREAD = (0.8, 1.4), (0.5, 2.0)  # around what was measured, and around what is guessed from drawing
GB = 1e9


def plan_file(settings: StudioSettings) -> Path:
    """Return where the worker writes the plan of a training with these settings."""
    told = json.dumps([asdict(settings.model), asdict(settings.train)], default=str)
    return settings.folder / f"plan-{hashlib.sha256(told.encode()).hexdigest()[:12]}.json"


def estimate_training(session: Session, settings: StudioSettings) -> dict[str, Any]:
    """Return minutes, bytes and a sentence; None for what is not known yet.

    Where no adapter was trained on this machine, the time is guessed from that of drawing.
    """
    file = plan_file(settings)
    plan = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    each, spread = _last(session, "train", "seconds_each"), SPREAD
    if each is None:
        call, spread = _last(session, "draw", "seconds_a_call"), GUESSED_SPREAD
        each = None if call is None or not plan else call * plan["calls"]
    num_bytes = plan.get("bytes")
    if each is None:
        return {"minutes": None, "bytes": num_bytes, "sentence": say("jobs.estimate_waits")}
    seconds = START + each * (settings.train.num_iterations + 1)
    low, high = (max(1, round(share * seconds / 60)) for share in spread)
    told = say("jobs.minutes", n=low) if low == high else say("jobs.minutes_range", low=low, high=high)
    sentence = say("jobs.estimate", minutes=told)
    if num_bytes is not None:
        sentence = f"{sentence} {say('jobs.estimate_memory', gigabytes=f'{num_bytes / GB:.1f}')}"
    if spread is GUESSED_SPREAD:
        sentence = f"{sentence} {say('jobs.estimate_guessed')}"
    return {"minutes": [low, high], "bytes": num_bytes, "sentence": sentence}


def _last(session: Session, kind: str, name: str) -> float | None:
    """Return what the last jobs of a kind measured."""
    jobs = select(Job).where(Job.kind == kind).order_by(Job.created.desc()).limit(20)
    return next((float(job.progress[name]) for job in session.scalars(jobs) if job.progress.get(name)), None)
