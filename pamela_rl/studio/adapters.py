"""Where people's trained adapters are."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from pamela_rl.storage import folder_name
from pamela_rl.studio.database.access import of
from pamela_rl.studio.database.schema import TrainedAdapter
from pamela_rl.studio.pictures import job_folder

RUN = "run"  # of a training, in its job's folder


def adapter_folder(folder: Path, adapter: TrainedAdapter) -> Path:
    """Return the folder of an adapter, an ordinary one."""
    run = job_folder(folder, adapter.person_id, adapter.job_id) / RUN
    return run / "adapters" / folder_name(adapter.person_id)


def newest_adapter(session: Session, person_id: str) -> TrainedAdapter | None:
    """Return a person's newest adapter."""
    return session.scalar(of(TrainedAdapter, person_id).order_by(TrainedAdapter.round.desc()).limit(1))
