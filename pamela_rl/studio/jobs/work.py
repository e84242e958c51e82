"""A job as the function that does it sees it, kept for its worker by a heartbeat meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Job
from pamela_rl.studio.jobs.queue import HEARTBEAT, beat, renew
from pamela_rl.studio.pictures import job_folder
from pamela_rl.studio.settings import StudioSettings

if TYPE_CHECKING:
    from pamela_rl.studio.jobs.models import Models


class Stopped(Exception):
    """The job is to stop: the person wishes it, or the worker ends.

    Attributes:
        wish: "pause", "cancel", or "end" where the worker ends and another goes on.
    """

    def __init__(self, wish: str):
        super().__init__(wish)
        self.wish = wish


class Failed(PamelaError):
    """The job did not work; the sentence says why and what helps."""


@dataclass
class Work:
    """A job that is being done.

    Attributes:
        settings: Of the studio.
        database: Of the studio.
        worker_id: Who does it.
        id: Of the job.
        person_id: Whose it is.
        kind: What it is.
        asked: What was asked for.
        models: Those that are open in this process.
        ending: Set when the worker is to end.
    """

    settings: StudioSettings
    database: Database
    worker_id: str
    id: str
    person_id: str
    kind: str
    asked: Mapping[str, Any]
    models: Models
    ending: threading.Event
    _wish: str | None = None
    _progress: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls,
        job: Job,
        settings: StudioSettings,
        database: Database,
        worker_id: str,
        models: Models,
        ending: threading.Event,
    ) -> Work:
        """Return the work of a job that the worker has leased."""
        return cls(settings, database, worker_id, job.id, job.person_id, job.kind, dict(job.settings), models, ending)

    @property
    def folder(self) -> Path:
        """The job's folder."""
        place = job_folder(self.settings.folder, self.person_id, self.id)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def tell(self, **progress: Any) -> None:
        """Say how far it is; pages see it within some seconds."""
        with self._lock:
            self._progress |= progress

    def tell_now(self) -> None:
        """Let pages see what was told, and hear what the person wishes."""
        with self._lock:
            told, self._progress = self._progress, {}
        with self.database.changing() as session:
            beat(session, self.worker_id)
            self._wish = renew(session, self.id, self.worker_id, told or None)

    def check(self) -> None:
        """Go on, unless the job is to stop.

        Raises:
            Stopped: It is.
        """
        if self._wish is not None:
            raise Stopped(self._wish)
        if self.ending.is_set():
            raise Stopped("end")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the job for its worker inside the block."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(HEARTBEAT):
                with suppress(SQLAlchemyError):  # e.g. the database restarts; the lease is longer than one heartbeat
                    self.tell_now()

        thread = threading.Thread(target=keep, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        self.tell_now()
