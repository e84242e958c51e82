"""Many people rate at once, and the server is killed amid it: nothing that was confirmed is lost, nothing is there twice."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image
from sqlalchemy import select
from studio_process import StudioProcess

from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Answer, Person
from pamela_rl.studio.pictures import add_picture

Confirmed = list[tuple[str, int]]  # question and rating, in order


class Studio:
    """The server, killed and started again while others ask for it."""

    def __init__(self, folder: Path, url: str | None):
        self.folder, self.flags = folder, ["--workers", "0", *(["--database", url] if url else [])]
        self.process = StudioProcess(folder, *self.flags)
        self.times: list[float] = []

    def restart(self) -> None:
        """Kill the server and start another one."""
        self.process.kill()
        self.process = StudioProcess(self.folder, *self.flags)


def fill(database: Database, folder: Path, people: int, pictures: int) -> list[str]:
    """Add people with pictures and return their ids."""
    with database.changing() as session:
        ids = [f"person{number:02}" for number in range(people)]
        session.add_all(Person(id=id, name=id) for id in ids)
        session.flush()
        for id in ids:
            for number in range(pictures):
                image = Image.new("RGB", (8, 8), (number, 5, 5))
                add_picture(session, folder, id, image, prompt="", origin="upload")
    return ids


def rate(studio: Studio, person: str, ratings: int) -> Confirmed:
    """Rate as a browser does: what could not be sent is sent again, to a server that may be another one."""
    confirmed: Confirmed = []
    until = time.monotonic() + 1500  # a machine with much else to do is slow
    waiting: tuple[str, int] | None = None
    while len(confirmed) < ratings and time.monotonic() < until:
        try:
            with httpx.Client(base_url=studio.process.address, cookies={"studio_here": person}, timeout=60) as client:
                page = client.get("/sign-in").text + client.get("/", headers={"accept": "text/html"}).text
                token = re.findall(r'name="csrf" content="([^"]+)"', page)[-1]
                told = client.get("/api/questions").json()
                while len(confirmed) < ratings:
                    if waiting is None:
                        if told["current"] is None:
                            time.sleep(0.2)
                            told = client.get("/api/questions").json()
                            continue
                        waiting = (told["current"]["id"], 1 + len(confirmed) % 5)
                    began = time.perf_counter()
                    reply = client.post(
                        f"/api/questions/{waiting[0]}/answer", json={"said": "rating", "value": waiting[1]},
                        headers={"x-csrf-token": token},
                    )  # fmt: skip
                    studio.times.append(time.perf_counter() - began)
                    assert reply.status_code == 200, reply.text
                    confirmed.append(waiting)
                    waiting, told = None, reply.json()
        except httpx.TransportError:
            time.sleep(0.2)
    return confirmed


def rate_all(studio: Studio, people: list[str], ratings: int, *, kill: bool) -> dict[str, Confirmed]:
    """Let everybody rate at once, and the server be killed when a third and two thirds are there."""
    with ThreadPoolExecutor(len(people)) as crowd:
        going = {person: crowd.submit(rate, studio, person, ratings) for person in people}
        for share in (1 / 3, 2 / 3) if kill else ():
            wanted = share * len(people) * ratings
            while len(studio.times) < wanted and not all(future.done() for future in going.values()):
                time.sleep(0.05)
            studio.restart()
        return {person: future.result() for person, future in going.items()}


def check(database: Database, confirmed: dict[str, Confirmed], ratings: int) -> None:
    """None is lost, none is there twice, and each person's order is kept."""
    with database.session() as session:
        for person, told in confirmed.items():
            kept = session.scalars(select(Answer).where(Answer.person_id == person).order_by(Answer.number)).all()
            assert len(told) == ratings
            assert [answer.number for answer in kept] == list(range(1, ratings + 1))
            assert [(answer.question_id, answer.value) for answer in kept] == told


@pytest.mark.parametrize(
    ("kind", "people", "ratings"),
    [
        ("sqlite", 5, 6),
        pytest.param("sqlite", 50, 40, marks=pytest.mark.slow),
        pytest.param("postgresql", 50, 40, marks=pytest.mark.slow),
    ],
)
def test_none_is_lost_and_none_is_there_twice(
    kind: str, people: int, ratings: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make: Callable[[], str | None] = request.getfixturevalue("fresh_database") if kind == "postgresql" else lambda: None
    url = make()
    database = open_database(tmp_path, url)
    database.migrate()
    ids = fill(database, tmp_path, people, ratings + 3)
    studio = Studio(tmp_path, url)
    try:
        confirmed = rate_all(studio, ids, ratings, kill=True)
    finally:
        studio.process.kill()
    check(database, confirmed, ratings)
    database.close()
    times = sorted(studio.times)
    print(
        f"{kind}, {people} at once: median {times[len(times) // 2]:.3f} s, 99 % {times[int(len(times) * 0.99)]:.3f} s"
    )
    assert threading.active_count() < 20
