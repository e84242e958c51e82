"""The queue of jobs: in order, one at a time on a device, and given to another worker when its own has died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.orm import Session

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.access import NotFound, of, owned
from pamela_rl.studio.database.schema import Job, Worker, now
from pamela_rl.studio.web.strings import say

LEASE, HEARTBEAT = 20.0, 4.0  # seconds: a job is its worker's for so long; a worker that is alive says so as often
MOST_ATTEMPTS = 4  # a job that its workers died of as often is not tried again
MOST_WAITING = 20  # jobs of one person
LIVE = ("waiting", "running", "paused")


def add(session: Session, person_id: str, kind: str, settings: Mapping[str, Any]) -> Job:
    """Put a job at the end of the queue; drawing pictures to rate, which takes seconds, goes before all others.

    Raises:
        PamelaError: The person has too many in it.
    """
    mine = select(func.count()).where(Job.person_id == person_id, Job.state.in_(LIVE))
    if kind != "draw" and (session.scalar(mine) or 0) >= MOST_WAITING:
        raise PamelaError(say("jobs.too_many", most=MOST_WAITING))
    ends = select(func.min(Job.place), func.max(Job.place)).where(Job.state.in_(LIVE))
    first, last = session.execute(ends).one()
    place = (first or 0.0) - 1 if kind == "draw" else (last or 0.0) + 1
    job = Job(person_id=person_id, kind=kind, place=place, settings=dict(settings))
    session.add(job)
    session.flush()
    return job


def draw_ahead(session: Session, person_id: str, count: int) -> None:
    """Have pictures drawn for a person to rate, unless some are being drawn already."""
    drawing = of(Job, person_id).where(Job.kind == "draw", Job.state.in_(("waiting", "running")))
    if count > 0 and session.scalar(drawing.limit(1)) is None:
        add(session, person_id, "draw", {"count": count})


def lease(session: Session, worker: Worker) -> Job | None:
    """Give a worker the next job, or one whose worker has died; None where there is none, or the device is busy.

    Args:
        session: That changes.
        worker: Who asks.
    """
    busy = (
        select(Job.id)
        .join(Worker, Worker.id == Job.worker)
        .where(Job.state == "running", Job.lease > now(), Worker.device == worker.device)
    )
    if session.scalar(busy.limit(1)) is not None:
        return None
    orphaned = (Job.state == "running") & or_(Job.lease.is_(None), Job.lease <= now())
    free = select(Job).where(or_(Job.state == "waiting", orphaned))
    # what ran goes on first
    job = session.scalar(free.order_by(Job.state, Job.place, Job.created).limit(1).with_for_update(skip_locked=True))
    if job is None:
        return None
    if job.wish is not None:  # its worker died before it heeded it
        _end(job, "cancelled" if job.wish == "cancel" else "paused", "")
        return None
    if job.attempts >= MOST_ATTEMPTS:
        _end(job, "failed", say("jobs.keeps_dying", n=job.attempts))
        return None
    job.state, job.worker, job.lease = "running", worker.id, now() + timedelta(seconds=LEASE)
    job.attempts, job.started = job.attempts + 1, job.started or now()
    session.flush()
    return job


def renew(session: Session, job_id: str, worker_id: str, progress: Mapping[str, Any] | None = None) -> str | None:
    """Keep a job for its worker, and return what the person wishes: "pause", "cancel" or nothing.

    Args:
        session: That changes.
        job_id: Of the job.
        worker_id: Of the worker.
        progress: What is known of its course by now; None is nothing new.

    Returns:
        "cancel" as well where the job is gone, or another worker's.
    """
    job = session.get(Job, job_id)
    if job is None or job.worker != worker_id or job.state != "running":
        return "cancel"
    job.lease = now() + timedelta(seconds=LEASE)
    if progress is not None:
        job.progress = {**job.progress, **progress}
    return job.wish


def finish(session: Session, job_id: str, worker_id: str, state: str, message: str = "") -> None:
    """End a worker's job, unless it is gone or another's by now."""
    job = session.get(Job, job_id)
    if job is not None and job.worker == worker_id and job.state == "running":
        _end(job, state, message)


def give_back(session: Session, job_id: str, worker_id: str) -> None:
    """Let another worker go on with a job, since this one ends."""
    job = session.get(Job, job_id)
    if job is not None and job.worker == worker_id and job.state == "running":
        job.state, job.worker, job.lease, job.attempts = "waiting", None, None, max(0, job.attempts - 1)


def beat(session: Session, worker_id: str) -> None:
    """Say that a worker is alive."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(seen=now()))


def pause(session: Session, person_id: str, job_id: str) -> Job:
    """Stop a job so that it can go on later.

    Raises:
        NotFound: The person has no such job.
        PamelaError: It has ended.
    """
    return _wish(owned(session, Job, job_id, person_id, lock=True), "pause", "paused", ("waiting", "running"))


def cancel(session: Session, person_id: str, job_id: str) -> Job:
    """Stop a job for good.

    Raises:
        NotFound: The person has no such job.
        PamelaError: It has ended.
    """
    return _wish(owned(session, Job, job_id, person_id, lock=True), "cancel", "cancelled", LIVE)


def resume(session: Session, person_id: str, job_id: str) -> Job:
    """Let a job that is paused, or did not work, go on; it waits at the end of the queue.

    Raises:
        NotFound: The person has no such job.
        PamelaError: It is neither.
    """
    job = owned(session, Job, job_id, person_id, lock=True)
    if job.state == "running" and job.wish == "pause":
        job.wish = None
        return job
    if job.state not in ("paused", "failed"):
        raise PamelaError(say("jobs.not_resumable", state=say(f"job.{job.state}")))
    last = session.scalar(select(func.max(Job.place)).where(Job.state.in_(LIVE))) or 0.0
    job.state, job.wish, job.message, job.place, job.attempts, job.ended = "waiting", None, "", last + 1, 0, None
    return job


def move(session: Session, person_id: str, is_admin: bool, job_id: str, before: str | None) -> Job:
    """Move a job that waits to the place before another, or to the end of the queue.

    A person moves their own jobs before their own, and none of others back; an admin moves any.

    Args:
        session: That changes.
        person_id: Who moves it.
        is_admin: Whether they may move anybody's.
        job_id: Of the job.
        before: Of the one that it goes before; None is the end.

    Raises:
        NotFound: There is no such job, or it is not theirs to move.
        PamelaError: It does not wait, or others would have to wait longer.
    """
    queue = list(session.scalars(waiting()))
    chosen = next((job for job in queue if job.id == job_id and (is_admin or job.person_id == person_id)), None)
    if chosen is None:
        raise PamelaError(say("jobs.not_waiting")) if _owns(session, person_id, job_id) else NotFound
    order = [job for job in queue if job.id != job_id]
    place = len(order)
    if before is not None:
        theirs = [job.id if is_admin or job.person_id == person_id else None for job in order]
        place = theirs.index(before) if before in theirs else -1
        if place < 0:
            raise NotFound
    overtaken = order[place : queue.index(chosen)]
    if not is_admin and any(job.person_id != person_id for job in overtaken):
        raise PamelaError(say("jobs.not_before_others"))
    order.insert(place, chosen)
    for job, number in zip(order, sorted(job.place for job in queue), strict=True):
        job.place = number
    return chosen


def waiting() -> Select[Job]:
    """Return the query for the jobs that wait, in order."""
    return select(Job).where(Job.state == "waiting").order_by(Job.place, Job.created)


def place_of(session: Session, job: Job) -> int | None:
    """Return how many jobs come before one that waits, counted from 1; None where it does not wait."""
    if job.state != "waiting":
        return None
    before = select(func.count()).where(Job.state == "waiting", Job.place < job.place)
    return (session.scalar(before) or 0) + 1


def latest(session: Session, person_id: str, kinds: Sequence[str], most: int = 50) -> list[Job]:
    """Return a person's jobs of some kinds, the newest first."""
    return list(session.scalars(of(Job, person_id).where(Job.kind.in_(kinds)).order_by(Job.created.desc()).limit(most)))


def _owns(session: Session, person_id: str, job_id: str) -> bool:
    return session.scalar(of(Job, person_id).where(Job.id == job_id)) is not None


def _wish(job: Job, wish: str, state: str, allowed: Sequence[str]) -> Job:
    if job.state not in allowed:
        raise PamelaError(say("jobs.ended", state=say(f"job.{job.state}")))
    if job.state == "running":
        job.wish = wish
    else:
        _end(job, state, "")
    return job


def _end(job: Job, state: str, message: str) -> None:
    job.state, job.message, job.wish, job.worker, job.lease = state, message, None, None, None
    job.ended = None if state == "paused" else now()
