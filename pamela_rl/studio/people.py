"""Who takes part: invited with a token that is shown once, and removed with everything that came from them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from pamela_rl.errors import ConfigError
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Answer, BlindPair, Job, Person, Picture, TrainedAdapter, now
from pamela_rl.studio.pictures import job_folder, jobs_folder, pictures_folder, remove_files
from pamela_rl.studio.sign_in import give_token
from pamela_rl.studio.web.strings import say

FIRST = "me"
THEIRS: tuple[type[Any], ...] = (Answer, Picture, Job, TrainedAdapter, BlindPair)
LONGEST_NAME = 80
PATIENCE = 15.0  # seconds for the worker to stop what is running


def everybody(session: Session) -> Sequence[Person]:
    """Return all people, first come first."""
    return session.scalars(select(Person).order_by(Person.created)).all()


def ensure_first(session: Session) -> Person:
    """Return the person who was here first; where nobody is, make them, as an admin."""
    person = session.scalar(select(Person).order_by(Person.created).limit(1))
    if person is None:
        person = Person(name=FIRST, is_admin=True)
        session.add(person)
        session.flush()
    return person


def admin_token(session: Session, *, anew: bool = False) -> str | None:
    """Give the first admin a token and return it, if no admin has one yet or it is to be ``anew``; else None."""
    admins = [person for person in everybody(session) if person.is_admin] or [ensure_first(session)]
    admins[0].is_admin = True
    if any(person.token for person in admins) and not anew:
        return None
    return give_token(admins[0])


def add_person(session: Session, name: str, *, with_token: bool) -> tuple[Person, str | None]:
    """Add a person and return them, with the token they sign in with.

    Raises:
        ConfigError: The name is empty, too long, or not printable.
    """
    name = name.strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigError(say("errors.name", most=LONGEST_NAME))
    person = Person(name=name)
    session.add(person)
    session.flush()
    return person, give_token(person) if with_token else None


@dataclass(frozen=True)
class Gone:
    """What went with a person.

    Attributes:
        counts: How many ``answers``, ``pictures``, ``jobs``, ``adapters`` and ``blind_pairs`` of theirs, and of other
            people's ``others_adapters`` that were begun from theirs and ``others_pictures`` that any of these drew.
        others: Ids of people who lost something.
    """

    counts: dict[str, int]
    others: frozenset[str]


def remove_person(database: Database, folder: Path, person_id: str) -> Gone:
    """Remove a person and everything that was made from them, from the database and from the disk.

    That is their rows and files, other people's adapters that were begun from theirs, and what those adapters drew. A
    training that runs is asked to stop first.

    Args:
        database: Of the studio.
        folder: Of the studio.
        person_id: Who.
    """
    with database.changing() as session:
        derived = _derived_jobs(session, person_id)
        affected = (Job.person_id == person_id) | Job.id.in_([job.id for job in derived])
        session.execute(update(Job).where(affected, Job.state == "waiting").values(state="cancelled"))
        session.execute(update(Job).where(affected, Job.state == "running").values(wish="cancel"))
    _wait_until_stopped(database, affected)
    with database.changing() as session:
        derived = _derived_jobs(session, person_id)
        made = TrainedAdapter.job_id.in_([job.id for job in derived])
        adapters = session.scalars(select(TrainedAdapter).where((TrainedAdapter.person_id == person_id) | made)).all()
        by_these = Picture.adapter_id.in_([adapter.id for adapter in adapters])
        drawn = session.scalars(select(Picture).where(by_these, Picture.person_id != person_id)).all()
        counts = {table.__tablename__: _count(session, table, person_id) for table in THEIRS}
        counts["others_adapters"] = sum(adapter.person_id != person_id for adapter in adapters)
        counts["others_pictures"] = len(drawn)
        session.execute(delete(Job).where(Job.id.in_([job.id for job in derived])))
        session.execute(delete(Person).where(Person.id == person_id))
    for place in (
        pictures_folder(folder, person_id),
        jobs_folder(folder, person_id),
        *(job_folder(folder, job.person_id, job.id) for job in derived),
    ):
        shutil.rmtree(place, ignore_errors=True)
    remove_files(folder, drawn)
    return Gone(counts, frozenset([job.person_id for job in derived] + [picture.person_id for picture in drawn]))


def _count(session: Session, table: Any, person_id: str) -> int:
    return session.scalar(select(func.count(table.id)).where(table.person_id == person_id)) or 0


def _derived_jobs(session: Session, person_id: str) -> list[Job]:
    """Return the trainings of others that went on from a person's adapter, or from one of such a training."""
    trainings = session.scalars(select(Job).where(Job.kind == "train", Job.person_id != person_id)).all()
    made = session.execute(select(TrainedAdapter.id, TrainedAdapter.job_id, TrainedAdapter.person_id)).all()
    theirs = {adapter for adapter, _, owner in made if owner == person_id}
    derived: dict[str, Job] = {}
    while new := [job for job in trainings if job.id not in derived and job.settings.get("begin_from") in theirs]:
        derived |= {job.id: job for job in new}
        theirs |= {adapter for adapter, job_id, _ in made if job_id in derived}
    return list(derived.values())


def _wait_until_stopped(database: Database, affected: ColumnElement[bool]) -> None:
    until = time.monotonic() + PATIENCE
    running = select(Job.id).where(affected, Job.state == "running", Job.lease > now()).limit(1)
    while time.monotonic() < until:
        with database.session() as session:
            if session.scalar(running) is None:
                return
        time.sleep(0.2)
