"""The process that draws and trains: it takes jobs from the queue, one after the other.

python -m pamela_rl.studio.jobs.worker SETTINGS      # as the studio's page starts it; SETTINGS is a file for --config
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType

import torch
from sqlalchemy import delete

from pamela_rl.cli.command_line import read_config, use_all_cores
from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Worker
from pamela_rl.studio.jobs.comparing import compare
from pamela_rl.studio.jobs.drawing import draw
from pamela_rl.studio.jobs.models import Models
from pamela_rl.studio.jobs.planning import write_plan
from pamela_rl.studio.jobs.queue import HEARTBEAT, beat, finish, give_back, lease
from pamela_rl.studio.jobs.showing import search, show
from pamela_rl.studio.jobs.training import train
from pamela_rl.studio.jobs.work import Stopped, Work
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.strings import say

POLL = 0.4  # seconds between two looks at an empty queue
DO: Mapping[str, Callable[[Work], str]] = MappingProxyType(
    {"draw": draw, "train": train, "compare": compare, "search": search, "show": show}
)
"""What does each kind of job, and returns a sentence about how it ended, or nothing."""
ENDS = {"pause": "paused", "cancel": "cancelled"}
LOG = logging.getLogger(__name__)


def work_until(ending: threading.Event, settings: StudioSettings, database: Database, once: bool = False) -> None:
    """Do jobs until told to end, or until the process that started this one is gone.

    Args:
        ending: Set when the worker is to end; the job that is being done goes back to the queue.
        settings: Of the studio.
        database: Of the studio.
        once: End when nothing is left to do.
    """
    models, parent, seen, worked = Models(settings), os.getppid(), time.monotonic(), False
    with _registered(database) as worker:
        while not ending.is_set() and os.getppid() == parent:
            with database.changing() as session:
                job = lease(session, worker)
                if time.monotonic() - seen > HEARTBEAT:
                    beat(session, worker.id)
                    seen = time.monotonic()
            if job is not None:
                _do(Work.of(job, settings, database, worker.id, models, ending))
                worked = True
            elif worked:
                worked = False
                with suppress(PamelaError):  # told by the training, if it comes to one
                    write_plan(settings, models)
            elif once:
                return
            else:
                ending.wait(POLL)


def _do(work: Work) -> None:
    """Do one job, and write down how it ended; a job never ends its worker."""
    state, message = "done", ""
    try:
        with work.kept():
            message = DO[work.kind](work)
    except Stopped as stopped:
        if stopped.wish == "end":
            with work.database.changing() as session:
                give_back(session, work.id, work.worker_id)
            return
        state = ENDS[stopped.wish]
    except PamelaError as error:
        state, message = "failed", say("jobs.failed", why=" ".join(str(error).split()))
    except (MemoryError, torch.OutOfMemoryError):
        state, message = "failed", say("jobs.failed", why=say("jobs.no_memory"))
        work.models.close()
    except Exception as error:
        LOG.exception("a job failed", extra={"job": work.id, "kind": work.kind})
        state, message = (
            "failed",
            say("jobs.failed", why=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"),
        )
    with work.database.changing() as session:
        finish(session, work.id, work.worker_id, state, message)


@contextmanager
def _registered(database: Database) -> Iterator[Worker]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    worker = Worker(device=f"{socket.gethostname()} {device}", process=os.getpid())
    with database.changing() as session:
        session.add(worker)
    try:
        yield worker
    finally:
        with database.changing() as session:
            session.execute(delete(Worker).where(Worker.id == worker.id))


def main(settings_file: str) -> None:
    """Work with the settings in a file, until SIGTERM or Ctrl-C."""
    settings = read_config(StudioSettings, "", ["--config", settings_file])
    use_all_cores()
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    database = open_database(settings.folder, settings.database)
    try:
        work_until(ending, settings, database)
    finally:
        database.close()


if __name__ == "__main__":
    main(sys.argv[1])
