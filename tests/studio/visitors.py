"""Browsers that visit a studio, without the browser: cookies, the token that changes need, and a person with everything."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy.orm import Session

from pamela_rl.studio.adapters import adapter_folder
from pamela_rl.studio.database.schema import Answer, BlindPair, Job, Person, Question, TrainedAdapter
from pamela_rl.studio.pictures import add_picture
from pamela_rl.studio.sign_in import give_token

NAME = "http://studio.test"


class Browser(TestClient):
    """One browser; signed in where a token is given."""

    def __init__(self, app: FastAPI, token: str | None = None, base_url: str = NAME):
        super().__init__(app, base_url=base_url, follow_redirects=False)
        if token is not None:
            assert self.post("/sign-in", json={"token": token}).json() == {}
        page = self.get("/", headers={"accept": "text/html"})
        found = re.search(r'name="csrf" content="([^"]+)"', page.text)
        if found is not None:
            self.headers["x-csrf-token"] = found[1]


def add_somebody(session: Session, folder: Path, name: str) -> tuple[dict[str, str], str]:
    """Add a person who has one of everything; return the ids of all that, and their token."""
    person = Person(name=name)
    session.add(person)
    session.flush()
    train = Job(person_id=person.id, kind="train", state="done", place=1.0)
    compare = Job(person_id=person.id, kind="compare", state="done", place=2.0)
    waiting = Job(person_id=person.id, kind="show", state="waiting", place=3.0, settings={"prompt": "a cup"})
    session.add_all([train, compare, waiting])
    session.flush()
    adapter = TrainedAdapter(person_id=person.id, job_id=train.id, round=1, num_answers=1, strength=0.75)
    session.add(adapter)
    session.flush()
    pictures = [
        add_picture(session, folder, person.id, Image.new("RGB", (8, 8), (place, 9, 9)), prompt="a cup", origin="base")
        for place in range(3)
    ]
    asked, answered = (
        Question(person_id=person.id, kind="rating", picture_ids=[picture.id], at_random=False, state=state)
        for picture, state in zip(pictures, ("asked", "answered"))
    )
    pair = BlindPair(
        person_id=person.id, job_id=compare.id, number=1, prompt="a cup", left_id=pictures[0].id, right_id=pictures[1].id,
        left_arm="own", right_arm="base",
    )  # fmt: skip
    session.add_all([asked, answered, pair])
    session.flush()
    session.add(
        Answer(
            person_id=person.id, number=1, question_id=answered.id, said="rating", picture_ids=[pictures[1].id], value=5.0
        )
    )  # fmt: skip
    session.add_all(
        Answer(
            person_id=person.id, number=number, said="rating", picture_ids=[pictures[0].id], value=2.0, source="import"
        )
        for number in range(2, 12)
    )
    place = adapter_folder(folder, adapter)
    place.mkdir(parents=True)
    (place / "adapter.json").write_text('{"user_id": "me", "base_model": "world", "recommended_strength": 0.75}')
    ids = {
        "person": person.id, "picture": pictures[0].id, "asked": asked.id, "answered": answered.id, "train": train.id,
        "compare": compare.id, "waiting": waiting.id, "adapter": adapter.id, "pair": pair.id,
    }  # fmt: skip
    return ids, give_token(person)


def png(width: int = 8, height: int = 8, color: tuple[int, int, int] = (1, 2, 3)) -> bytes:
    """Return a picture, encoded."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), color).save(stream, "PNG")
    return stream.getvalue()


def error(reply: httpx.Response) -> Any:
    """Return the sentence of a refusal."""
    return reply.json()["error"]
