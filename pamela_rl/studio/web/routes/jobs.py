"""Requests about jobs: what they would take, beginning, watching, stopping and reordering them; and what they made."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from pamela_rl.errors import PamelaError
from pamela_rl.studio.answers import count_answers
from pamela_rl.studio.database.access import NotFound, of, owned
from pamela_rl.studio.database.schema import Job, Picture, TrainedAdapter
from pamela_rl.studio.estimate import estimate_training
from pamela_rl.studio.jobs import queue
from pamela_rl.studio.jobs.course import sheet_file
from pamela_rl.studio.pictures import job_folder
from pamela_rl.studio.web.routes.pictures import as_json
from pamela_rl.studio.web.strings import say
from pamela_rl.studio.web.visitor import Here, Me

router = APIRouter()
KINDS = ("train", "compare", "search", "show")  # that people begin; drawing begins by itself
ARMS = ("base", "search", "other")
LEAST_ANSWERS, LEAST_PAIRS, MOST_PAIRS = 8, 4, 200
MOST_PROMPTS, LONGEST_PROMPT = 20, 1000


class JobBody(BaseModel):
    """What is to be done, and how."""

    kind: str = Field(max_length=20)
    settings: dict[str, Any] = Field(default_factory=dict)


class MoveBody(BaseModel):
    """Before which other job one goes; None is the end."""

    before: str | None = Field(default=None, max_length=64)


@router.get("/api/estimate")
def estimate(studio: Here, me: Me, kind: Literal["train"] = "train") -> dict[str, Any]:
    """Return how long a training takes, and how much memory."""
    with studio.database.session() as session:
        return estimate_training(session, studio.settings)


@router.post("/api/jobs")
def add(body: JobBody, studio: Here, me: Me) -> dict[str, Any]:
    """Put a job into the queue."""
    if body.kind not in KINDS:
        raise PamelaError(say("jobs.kind", allowed=", ".join(KINDS)))
    with studio.database.changing() as session:
        job = queue.add(session, me.id, body.kind, _checked(session, me.id, body))
    return _job(studio, job.id, me.id)


@router.get("/api/jobs")
def jobs(studio: Here, me: Me) -> dict[str, Any]:
    """Return one's jobs, the newest first, and the queue, in which others' jobs are only places."""
    with studio.database.session() as session:
        running = select(Job).where(Job.state == "running").order_by(Job.place)
        ahead = [*session.scalars(running), *session.scalars(queue.waiting())]
        line = [
            {"id": job.id if job.person_id == me.id or me.is_admin else None, "mine": job.person_id == me.id, "kind": job.kind,
             "state": job.state, "place": place}
            for place, job in enumerate(ahead, 1)
        ]  # fmt: skip
        mine = queue.latest(session, me.id, [*KINDS, "draw"])
        return {"jobs": [as_told(session, job) for job in mine], "queue": line}


@router.get("/api/jobs/{id}")
def job(id: str, studio: Here, me: Me) -> dict[str, Any]:
    """Return a job."""
    return _job(studio, id, me.id)


@router.post("/api/jobs/{id}/pause")
def pause(id: str, studio: Here, me: Me) -> dict[str, Any]:
    """Stop a job so that it can go on."""
    with studio.database.changing() as session:
        queue.pause(session, me.id, id)
    return _job(studio, id, me.id)


@router.post("/api/jobs/{id}/resume")
def resume(id: str, studio: Here, me: Me) -> dict[str, Any]:
    """Let it go on."""
    with studio.database.changing() as session:
        queue.resume(session, me.id, id)
    return _job(studio, id, me.id)


@router.post("/api/jobs/{id}/cancel")
def cancel(id: str, studio: Here, me: Me) -> dict[str, Any]:
    """Stop it for good."""
    with studio.database.changing() as session:
        queue.cancel(session, me.id, id)
    return _job(studio, id, me.id)


@router.post("/api/jobs/{id}/move")
def move(id: str, body: MoveBody, studio: Here, me: Me) -> dict[str, Any]:
    """Move it in the queue."""
    with studio.database.changing() as session:
        moved = queue.move(session, me.id, me.is_admin, id, body.before)
        return {"id": moved.id, "place": queue.place_of(session, moved)}


@router.get("/api/jobs/{id}/sheets/{iteration}")
def sheet(id: str, iteration: int, studio: Here, me: Me) -> FileResponse:
    """Return the same pictures as they were after so many iterations."""
    with studio.database.session() as session:
        owned(session, Job, id, me.id)
    file = sheet_file(job_folder(studio.settings.folder, me.id, id), me.id, iteration)
    if not file.is_file():
        raise NotFound
    return FileResponse(file, media_type="image/png", headers={"cache-control": "private, max-age=31536000, immutable"})


@router.get("/api/adapters")
def adapters(studio: Here, me: Me) -> dict[str, Any]:
    """Return one's adapters, the newest first, and whether others have some to compare with."""
    with studio.database.session() as session:
        mine = session.scalars(of(TrainedAdapter, me.id).order_by(TrainedAdapter.round.desc()))
        others = session.scalar(select(TrainedAdapter.id).where(TrainedAdapter.person_id != me.id).limit(1))
        names = ("id", "round", "num_answers", "strength", "begun_from")
        rows = [{name: getattr(row, name) for name in names} | {"created": _time(row)} for row in mine]
    return {"adapters": rows, "others": others is not None}


def as_told(session: Session, job: Job) -> dict[str, Any]:
    """Return a job as pages get it."""
    known = job.progress
    sheets = [{"iteration": number, "src": f"/api/jobs/{job.id}/sheets/{number}"} for number in known.get("sheets", [])]
    names = ("iteration", "of", "seconds_left")
    made = session.scalar(of(TrainedAdapter, job.person_id).where(TrainedAdapter.job_id == job.id))
    progress = {"share": known.get("share", 0.0), "curve": known.get("curve", []), "sheets": sheets}
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "wish": job.wish,
        "place": queue.place_of(session, job),
        "progress": progress | {name: known.get(name) for name in names},
        "message": job.message,
        "created": _time(job),
        "adapter": made.id if made is not None else job.settings.get("adapter"),
        "settings": job.settings,
        "result": _result(session, job) if job.state == "done" else None,
    }


def _job(studio: Here, id: str, person_id: str) -> dict[str, Any]:
    with studio.database.session() as session:
        return as_told(session, owned(session, Job, id, person_id))


def _time(row: Job | TrainedAdapter) -> str:
    return row.created.isoformat(timespec="seconds") + "Z"


def _result(session: Session, job: Job) -> dict[str, Any] | None:
    """What a job came to, with its pictures; None where that is not told yet."""
    if job.kind == "compare":
        from pamela_rl.studio.blind import results

        return results(session, job)
    kept = job.progress.get("result")
    if kept is None:
        return None
    named = {name: value for name, value in kept.items() if name != "pictures"}
    shown: dict[str, Any] = {}
    if "pictures" in kept:
        found = _pictures(session, job, [row["picture"] for row in kept["pictures"]])
        shown["pictures"] = [
            {"strength": row["strength"], **found[row["picture"]]}
            for row in kept["pictures"]
            if row["picture"] in found
        ]
    if "winners" in kept:
        found = _pictures(session, job, [row[side] for row in kept["winners"] for side in ("picture", "before")])
        shown["winners"] = [
            {**row, "picture": found.get(row["picture"]), "before": found.get(row["before"])} for row in kept["winners"]
        ]
    return named | shown


def _pictures(session: Session, job: Job, ids: list[str]) -> dict[str, dict[str, Any]]:
    return {p.id: as_json(p) for p in session.scalars(of(Picture, job.person_id).where(Picture.id.in_(ids)))}


def _checked(session: Session, person_id: str, body: JobBody) -> dict[str, Any]:
    """Return what is asked for, nothing else, and only what can be done.

    Raises:
        PamelaError: A setting cannot work.
        NotFound: There is no such adapter.
    """
    asked = body.settings
    if body.kind in ("train", "search"):
        count = count_answers(session, person_id)
        if count < LEAST_ANSWERS:
            raise PamelaError(say("jobs.few_answers", n=count, least=LEAST_ANSWERS))
    if body.kind == "train":
        begun = asked.get("begin_from")
        return {"begin_from": None if begun is None else _adapter(session, person_id, begun)}
    if body.kind == "search":
        return {"prompts": _prompts(asked.get("prompts"))}
    if body.kind == "show":
        prompt = asked.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > LONGEST_PROMPT:
            raise PamelaError(say("jobs.no_prompt", length=LONGEST_PROMPT))
        return {"prompt": prompt.strip(), "adapter": _adapter(session, person_id, asked.get("adapter"))}
    against, pairs = asked.get("against"), asked.get("pairs", 20)
    if not isinstance(against, list) or not against or not all(arm in ARMS for arm in against):
        raise PamelaError(say("jobs.no_arms", allowed=", ".join(ARMS)))
    if not isinstance(pairs, int) or not LEAST_PAIRS <= pairs <= MOST_PAIRS:
        raise PamelaError(say("jobs.pairs", least=LEAST_PAIRS, most=MOST_PAIRS))
    own = _adapter(session, person_id, asked.get("adapter"))
    return {"adapter": own, "against": list(dict.fromkeys(against)), "pairs": pairs}


def _adapter(session: Session, person_id: str, id: object) -> str:
    if id is None:
        raise PamelaError(say("jobs.no_adapter"))
    return owned(session, TrainedAdapter, str(id), person_id).id


def _prompts(given: object) -> list[str]:
    lines = [line.strip() for line in given if isinstance(line, str)] if isinstance(given, list) else []
    lines = [line for line in lines if line]
    if not 1 <= len(lines) <= MOST_PROMPTS or max(map(len, lines)) > LONGEST_PROMPT:
        raise PamelaError(say("jobs.no_prompts", most=MOST_PROMPTS, length=LONGEST_PROMPT))
    return lines
