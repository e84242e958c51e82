"""A zip with everything of a person, taken in as another person's or into another studio."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from pamela_rl.errors import DataError
from pamela_rl.studio.adapters import adapter_folder
from pamela_rl.studio.answers import next_number
from pamela_rl.studio.asking import only_measures
from pamela_rl.studio.database.access import of
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import (
    ANSWERED,
    Answer,
    BlindPair,
    Job,
    Person,
    Question,
    TrainedAdapter,
    new_id,
)
from pamela_rl.studio.everything import Everything, PictureRow, open_everything, take_adapter, unpacked
from pamela_rl.studio.importing import Imported, has_room
from pamela_rl.studio.pictures import add_picture
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.uploads import decoded
from pamela_rl.studio.web.strings import say


class _Ids(dict[str, str]):
    """From ids in the zip to those here; ``None`` and what is not there stay None."""

    def of(self, id: str | None) -> str | None:
        """Return the id here."""
        return None if id is None else self.get(id)


def import_everything(database: Database, settings: StudioSettings, person_id: str, path: Path) -> Imported:
    """Take in what ``everything.members`` wrote; what is here already is not taken twice.

    Args:
        database: Of the studio.
        settings: Of the studio.
        person_id: Whose it becomes.
        path: The zip.

    Raises:
        DataError: It is none.
    """
    imported = Imported()
    try:
        with zipfile.ZipFile(path) as archive:
            told = open_everything(archive)
            adapters = _take_adapters(database, settings.folder, person_id, told, archive)
            pictures = _take_pictures(database, settings, person_id, told, archive, adapters, imported)
    except zipfile.BadZipFile as error:
        raise DataError(say("errors.no_export")) from error
    with database.changing() as session:
        _take_answers(session, person_id, told, pictures, imported)
        _take_pairs(session, person_id, told, pictures)
        person = session.get_one(Person, person_id)
        person.settings = told.settings.model_dump(exclude_none=True) | person.settings
    return imported


def _take_adapters(
    database: Database, folder: Path, person_id: str, told: Everything, archive: zipfile.ZipFile
) -> _Ids:
    ids, jobs = _Ids(), {job.id: job for job in told.jobs if job.kind == "train"}
    with database.session() as session:
        here = {adapter.created: adapter.id for adapter in session.scalars(of(TrainedAdapter, person_id))}
    for row in told.adapters:
        created = _plain(row.created)
        if row.job_id not in jobs or created in here:
            ids |= {row.id: here[created]} if created in here else {}
            continue
        begun_from = ids.of(row.begun_from)
        job = Job(
            id=new_id(), person_id=person_id, kind="train", state="done", place=0.0, created=_plain(jobs[row.job_id].created),
            settings={"begin_from": begun_from, "imported": True},
        )  # fmt: skip
        adapter = TrainedAdapter(
            id=new_id(), person_id=person_id, job_id=job.id, begun_from=begun_from, round=row.round,
            num_answers=row.num_answers, strength=row.strength, created=created,
        )  # fmt: skip
        if take_adapter(archive, row.id, adapter_folder(folder, adapter)):
            with database.changing() as session:
                session.add(job)
                session.flush()
                session.add(adapter)
            ids[row.id] = adapter.id
    return ids


def _take_pictures(
    database: Database, settings: StudioSettings, person_id: str, told: Everything, archive: zipfile.ZipFile,
    adapters: _Ids, imported: Imported,
) -> _Ids:  # fmt: skip
    ids, rows = _Ids(), {row.id: row for row in told.pictures}
    there = [id for id in rows if f"pictures/{id}.png" in archive.NameToInfo]
    files = ((id, unpacked(archive, f"pictures/{id}.png")) for id in there)
    for id, made in decoded(files, settings.uploads):
        row = rows[id]
        if isinstance(made, str):
            imported.refused.append((f"pictures/{id}.png", made))
            continue
        with database.changing() as session:
            if not has_room(session, settings, person_id):
                full = say("errors.library_full", most=settings.uploads.pictures)
                imported.refused.append((f"pictures/{id}.png", full))
                continue
            new = _id_like(row)
            picture = add_picture(
                session, settings.folder, person_id, made, prompt=row.prompt, origin=row.origin,
                adapter_id=adapters.of(row.adapter_id), seed=row.seed, id=new,
            )  # fmt: skip
            if picture.id == new:
                picture.excluded, picture.asked = row.excluded, row.asked
                imported.added += 1
            ids[id] = picture.id
    return ids


def _id_like(row: PictureRow) -> str:
    """Return a new id, of a picture that only measures if the old one does."""
    while only_measures(new := new_id()) != only_measures(row.id):
        pass
    return new


def _take_answers(session: Session, person_id: str, told: Everything, pictures: _Ids, imported: Imported) -> None:
    number = next_number(session, person_id)
    here = set(session.scalars(select(Answer.created).where(Answer.person_id == person_id)))
    questions = {row.id: row for row in told.questions}
    for row in sorted(told.answers, key=lambda row: row.number):
        asked = questions.get(row.question_id or "")
        there = all(id in pictures for id in (*row.picture_ids, *(asked.picture_ids if asked else ())))
        if _plain(row.created) in here or not there or (row.source == "studio") != (asked is not None):
            continue
        question = None
        if asked is not None:
            question = Question(
                id=new_id(), person_id=person_id, kind=asked.kind, at_random=asked.at_random, state=ANSWERED,
                picture_ids=[pictures[id] for id in asked.picture_ids], created=_plain(asked.created),
            )  # fmt: skip
            session.add(question)
            session.flush()
        session.add(
            Answer(
                person_id=person_id, number=number, question_id=question.id if question else None, said=row.said,
                picture_ids=[pictures[id] for id in row.picture_ids], value=row.value, reason=row.reason, at_random=row.at_random, source=row.source,
                undone=None if row.undone is None else _plain(row.undone), created=_plain(row.created),
            )
        )  # fmt: skip
        here.add(_plain(row.created))
        number += 1
        imported.ratings += row.said in ("rating", "choice") and row.undone is None


def _take_pairs(session: Session, person_id: str, told: Everything, pictures: _Ids) -> None:
    comparisons = of(Job, person_id).where(Job.kind == "compare")
    here = {job.created for job in session.scalars(comparisons)}
    for row in told.jobs:
        pairs = [pair for pair in told.blind_pairs if pair.job_id == row.id]
        shown = [pair for pair in pairs if pair.left_id in pictures and pair.right_id in pictures]
        if row.kind != "compare" or _plain(row.created) in here or not shown:
            continue
        job = Job(
            id=new_id(), person_id=person_id, kind="compare", state="done", place=0.0, created=_plain(row.created),
            settings={"imported": True},
        )  # fmt: skip
        session.add(job)
        session.flush()
        session.add_all(
            BlindPair(
                person_id=person_id, job_id=job.id, number=pair.number, prompt=pair.prompt,
                left_id=pictures[pair.left_id], right_id=pictures[pair.right_id], left_arm=pair.left_arm,
                right_arm=pair.right_arm, chosen=pair.chosen,
            )
            for pair in shown
        )  # fmt: skip


def _plain(at: datetime) -> datetime:
    """Return a time as columns keep it."""
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
