"""Requests about blind tests: the pair to look at, a choice, and the result, which alone names the arms."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pamela_rl.studio import blind
from pamela_rl.studio.database.access import NotFound, owned
from pamela_rl.studio.database.schema import Job
from pamela_rl.studio.web.visitor import Here, Me, Studio

router = APIRouter()


class ChoiceBody(BaseModel):
    """Which picture is chosen: left, right or tie."""

    chosen: str = Field(max_length=10)


@router.get("/api/blind/{job_id}")
def test(job_id: str, studio: Here, me: Me) -> dict[str, Any]:
    """Return the pair to look at, or the result when all were."""
    return _state(studio, job_id, me.id)


@router.post("/api/blind/{job_id}/pairs/{id}")
def choose(job_id: str, id: str, body: ChoiceBody, studio: Here, me: Me) -> dict[str, Any]:
    """Store a choice."""
    with studio.database.changing() as session:
        blind.choose(session, owned(session, Job, job_id, me.id), id, body.chosen)
    return _state(studio, job_id, me.id)


@router.post("/api/blind/{job_id}/back")
def back(job_id: str, studio: Here, me: Me) -> dict[str, Any]:
    """Take the last choice back."""
    with studio.database.changing() as session:
        blind.back(session, owned(session, Job, job_id, me.id))
    return _state(studio, job_id, me.id)


@router.post("/api/blind/{job_id}/learn")
def learn(job_id: str, studio: Here, me: Me) -> dict[str, Any]:
    """Let the choices teach the reward, too."""
    with studio.database.changing() as session:
        count = blind.learn(session, owned(session, Job, job_id, me.id))
    studio.changed(me.id)
    return {"learned": count}


def _state(studio: Studio, job_id: str, person_id: str) -> dict[str, Any]:
    with studio.database.session() as session:
        job = owned(session, Job, job_id, person_id)
        if job.kind != "compare":
            raise NotFound
        if job.state != "done":
            return {"pair": None, "result": None}
        pair, count = blind.next_pair(session, job), blind.count_pairs(session, job)
        told = None
        if pair is not None:
            told = {
                "id": pair.id,
                "number": pair.number + 1,
                "of": count,
                "prompt": pair.prompt,
                "left": f"/pictures/{pair.left_id}",
                "right": f"/pictures/{pair.right_id}",
            }
        return {"pair": told, "result": blind.results(session, job), "learned": bool(job.progress.get("learned"))}
