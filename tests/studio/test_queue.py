from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.access import NotFound
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Job, Person, Worker, now
from pamela_rl.studio.jobs import queue


@pytest.fixture
def people(database: Database) -> tuple[str, str]:
    with database.changing() as session:
        session.add_all([Person(id="ada", name="Ada"), Person(id="bo", name="Bo")])
    return "ada", "bo"


@pytest.fixture
def workers(database: Database) -> Iterator[tuple[Worker, Worker]]:
    found = (Worker(id="one", device="here", process=1), Worker(id="two", device="there", process=2))
    with database.changing() as session:
        session.add_all(found)
    return found


def begin(database: Database, person: str, kind: str = "train") -> str:
    with database.changing() as session:
        return queue.add(session, person, kind, {}).id


def leased(database: Database, worker: Worker) -> str | None:
    with database.changing() as session:
        job = queue.lease(session, worker)
        return None if job is None else job.id


def state(database: Database, job: str) -> tuple[str, str | None]:
    with database.session() as session:
        found = session.get_one(Job, job)
        return found.state, found.wish


def test_jobs_are_done_in_order_one_on_a_device_and_drawing_first(
    database: Database, people: tuple[str, str], workers: tuple[Worker, Worker]
) -> None:
    ada, bo = people
    first, second, drawing = begin(database, ada), begin(database, bo), begin(database, bo, "draw")
    assert leased(database, workers[0]) == drawing
    assert leased(database, Worker(id="three", device="here", process=3)) is None
    assert leased(database, workers[1]) == first
    with database.changing() as session:
        queue.finish(session, drawing, "one", "done")
    assert leased(database, workers[0]) == second
    assert leased(database, workers[0]) is None


def test_a_job_whose_worker_died_goes_to_another_and_the_dead_one_changes_nothing_any_more(
    database: Database, people: tuple[str, str], workers: tuple[Worker, Worker]
) -> None:
    job = begin(database, people[0])
    for attempt in range(queue.MOST_ATTEMPTS):
        assert leased(database, workers[attempt % 2]) == job
        assert leased(database, workers[(attempt + 1) % 2]) is None
        with database.changing() as session:
            session.get_one(Job, job).lease = now() - timedelta(seconds=1)
    assert leased(database, workers[0]) is None
    with database.changing() as session:
        found = session.get_one(Job, job)
        assert found.state == "failed"
        assert "process died each time" in found.message
        queue.resume(session, people[0], job)
    assert leased(database, workers[1]) == job
    with database.changing() as session:
        assert queue.renew(session, job, workers[0].id) == "cancel"
        queue.finish(session, job, workers[0].id, "done")
    assert state(database, job) == ("running", None)


def test_pausing_going_on_and_cancelling(
    database: Database, people: tuple[str, str], workers: tuple[Worker, Worker]
) -> None:
    ada, bo = people
    job = begin(database, ada)
    assert leased(database, workers[0]) == job
    with database.changing() as session:
        queue.pause(session, ada, job)
        assert queue.renew(session, job, "one", {"share": 0.5}) == "pause"
        queue.finish(session, job, "one", "paused")
    assert state(database, job) == ("paused", None)
    with database.changing() as session:
        assert queue.resume(session, ada, job).progress == {"share": 0.5}
        queue.cancel(session, ada, job)
    assert state(database, job) == ("cancelled", None)
    for change in (queue.pause, queue.resume, queue.cancel):
        with database.changing() as session, pytest.raises(PamelaError, match="It is "):
            change(session, ada, job)
        with database.changing() as session, pytest.raises(NotFound):
            change(session, bo, job)


def test_people_reorder_their_own_jobs_and_an_admin_all(database: Database, people: tuple[str, str]) -> None:
    ada, bo = people
    jobs = [begin(database, person) for person in (ada, bo, ada, ada)]

    def order() -> list[int]:
        with database.session() as session:
            return [jobs.index(job.id) for job in session.scalars(queue.waiting())]

    with database.changing() as session:
        queue.move(session, ada, False, jobs[3], jobs[2])
    assert order() == [0, 1, 3, 2]
    with database.changing() as session, pytest.raises(PamelaError, match="your own"):
        queue.move(session, ada, False, jobs[2], jobs[0])
    for mine, before in ((jobs[2], jobs[1]), (jobs[2], "no such"), (jobs[1], None), ("no such", None)):
        with database.changing() as session, pytest.raises(NotFound):
            queue.move(session, ada, False, mine, before)
    with database.changing() as session:
        queue.move(session, ada, False, jobs[0], None)
    assert order() == [1, 3, 2, 0]
    with database.changing() as session:
        queue.move(session, ada, True, jobs[2], jobs[1])
    assert order() == [2, 1, 3, 0]


def test_pictures_are_drawn_ahead_once_at_a_time(database: Database, people: tuple[str, str]) -> None:
    for count in (10, 10, 0):
        with database.changing() as session:
            queue.draw_ahead(session, people[0], count)
    with database.session() as session:
        assert [job.settings for job in session.scalars(select(Job))] == [{"count": 10}]
