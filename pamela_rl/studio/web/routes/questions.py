"""Requests about questions and answers: the next one, what is said to it, taking it back, and how one is asked."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pamela_rl.errors import PamelaError
from pamela_rl.studio import answers
from pamela_rl.studio.asking import SOURCES, Wishes, open_questions
from pamela_rl.studio.database.schema import KINDS, Answer, Job, Person, Picture, Question
from pamela_rl.studio.taste import Taste, Thought
from pamela_rl.studio.web.routes.pictures import as_json
from pamela_rl.studio.web.strings import say
from pamela_rl.studio.web.visitor import Here, Me, Studio

router = APIRouter()
MOST_PROMPTS, LONGEST_PROMPT = 200, 1000


class AnswerBody(BaseModel):
    """What is said to a question; see :class:`pamela_rl.studio.answers.Said`."""

    said: str = Field(max_length=20)
    value: int | None = None
    picture: str | None = Field(default=None, max_length=64)
    reason: str | None = Field(default=None, max_length=20)


class SettingsBody(BaseModel):
    """What a person changes of how they are asked."""

    kind: str | None = None
    source: str | None = None
    prompts: list[str] | None = None


def start(studio: Studio) -> None:
    """Begin to learn people's tastes, in the background."""
    studio.parts["taste"] = taste = Taste(studio.settings, studio.database)
    taste.start()


def stop(studio: Studio) -> None:
    """Stop learning."""
    studio.parts["taste"].stop()


@router.get("/api/questions")
def questions(studio: Here, me: Me) -> dict[str, Any]:
    """Return the question that is open, and the next."""
    found, taste = _state(studio, me.id), studio.parts["taste"]
    if taste.thought(me.id).mind is None:
        taste.changed(me.id)
    if found["next"] is None:
        taste.ask(me.id, wait=found["current"] is None)
        found = _state(studio, me.id)
    return found


@router.post("/api/questions/{id}/answer")
def answer(id: str, body: AnswerBody, studio: Here, me: Me) -> dict[str, Any]:
    """Store an answer, and return the next question."""
    said = answers.Said(body.said, body.value, body.picture, body.reason)
    try:
        with studio.database.changing() as session:
            number = answers.give(session, me.id, id, said).number
    except answers.AnsweredOtherwise as error:
        raise HTTPException(409, str(error)) from error
    studio.parts["taste"].changed(me.id)
    return {"answered": number, **questions(studio, me)}


@router.post("/api/undo")
def undo(studio: Here, me: Me) -> dict[str, Any]:
    """Take the newest answer back, and ask again."""
    with studio.database.changing() as session:
        undone = answers.undo(session, me.id)
    if undone is None:
        raise HTTPException(409, say("answers.nothing_to_undo"))
    studio.parts["taste"].changed(me.id)
    return {"undone": undone.number, **_state(studio, me.id)}


@router.get("/api/settings")
def settings(studio: Here, me: Me) -> dict[str, Any]:
    """Return how a person is asked."""
    with studio.database.session() as session:
        return Wishes.of(session.get_one(Person, me.id)).to_json()


@router.put("/api/settings")
def change_settings(body: SettingsBody, studio: Here, me: Me) -> dict[str, Any]:
    """Change how a person is asked; what is left out stays."""
    if body.kind is not None and body.kind not in KINDS:
        raise PamelaError(say("answers.kind", allowed=", ".join(KINDS)))
    if body.source is not None and body.source not in SOURCES:
        raise PamelaError(say("answers.source", allowed=", ".join(SOURCES)))
    prompts = None if body.prompts is None else [line.strip() for line in body.prompts if line.strip()]
    if prompts and (len(prompts) > MOST_PROMPTS or max(map(len, prompts)) > LONGEST_PROMPT):
        raise PamelaError(say("answers.prompts", most=MOST_PROMPTS, length=LONGEST_PROMPT))
    given = {"kind": body.kind, "source": body.source, "prompts": prompts}
    with studio.database.changing() as session:
        person = session.get_one(Person, me.id)
        person.settings = {**person.settings, **{name: value for name, value in given.items() if value is not None}}
        changed = Wishes.of(person).to_json()
    studio.parts["taste"].ask(me.id)
    return changed


def progress(session: Session, person_id: str, thought: Thought, ready: bool) -> dict[str, Any]:
    """Return how well a person is known, as a sentence and in numbers; from their answers at random alone."""
    count, known = answers.count_answers(session, person_id), thought.known
    outlook = thought.outlook
    if outlook is None:
        line = say("progress.none") if ready or not count else say("progress.loading", n=count)
        return {"answers": count, "line": line, "enough": False, "known": None}
    from pamela_rl.studio.progress import ENOUGH_ANSWERS, ENOUGH_RIGHT, MORE, WORTH_MORE

    enough = count >= ENOUGH_ANSWERS and outlook.right >= ENOUGH_RIGHT and (known is None or known.high > 0.5)
    missing = max(ENOUGH_ANSWERS - count, 0) or MORE
    helps = outlook.after - outlook.right >= WORTH_MORE
    key = ("enough_and_more" if helps else "enough") if enough else "more"
    following = say(f"progress.{key}", more=missing)
    if known is None:
        line = say("progress.unknown", n=count, next=following)
    else:
        ends = {"low": _share(known.low), "high": _share(known.high)}
        line = say("progress.known", n=count, right=known.right, of=known.of, next=following, **ends)
    return {"answers": count, "line": line, "enough": enough, "known": None if known is None else known.to_json()}


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


def _state(studio: Studio, person_id: str) -> dict[str, Any]:
    taste: Taste = studio.parts["taste"]
    with studio.database.session() as session:
        asked = open_questions(session, person_id)[:2]
        ids = [picture for question in asked for picture in question.picture_ids]
        pictures = {picture.id: picture for picture in session.scalars(select(Picture).where(Picture.id.in_(ids)))}
        there = [q for q in asked if all(p in pictures and pictures[p].excluded is None for p in q.picture_ids)]
        first = 1 + (session.scalar(select(func.max(Answer.number)).where(Answer.person_id == person_id)) or 0)
        told = [_told(question, pictures, first + place) for place, question in enumerate(there)]
        return {
            "current": told[0] if told else None,
            "next": told[1] if len(told) > 1 else None,
            "waiting": None if told else _waiting(session, person_id),
            "progress": progress(session, person_id, taste.thought(person_id), taste.ready),
        }


def _told(question: Question, pictures: dict[str, Picture], number: int) -> dict[str, Any]:
    """A question as the page gets it, which is not told whether it is at random."""
    seen = [as_json(pictures[picture]) for picture in question.picture_ids]
    return {"id": question.id, "kind": question.kind, "pictures": seen, "number": number}


def _waiting(session: Session, person_id: str) -> str:
    draws = Wishes.of(session.get_one(Person, person_id)).source != "own"
    mine = select(Job).where(Job.person_id == person_id, Job.kind == "draw").order_by(Job.created.desc()).limit(1)
    last = session.scalar(mine)
    if draws and last is not None and last.state == "failed":
        return last.message
    return say("answers.waiting_drawing" if draws else "answers.waiting_pictures")
