"""A backup taken while people rate is of one moment, and what is made from it is the studio again."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import func, select

from pamela_rl.errors import ConfigError, DataError
from pamela_rl.studio.backup import back_up, restore
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Answer, Event, Feature, Job, Person, Picture, Table, TrainedAdapter
from pamela_rl.studio.pictures import add_picture, job_folder, picture_file


def rate(database: Database, folder: Path, person: str, number: int) -> None:
    with database.changing() as session:
        image = Image.new("RGB", (8, 8), (number % 256, number // 256, 7))
        picture = add_picture(session, folder, person, image, prompt="a “cup”", origin="base")
        session.add(Answer(person_id=person, number=number, said="rating", picture_ids=[picture.id], value=4.0))


def fill(database: Database, folder: Path) -> None:
    with database.changing() as session:
        session.add(Person(id="p", name="Zoë", settings={"kind": "rating"}))
        session.flush()
        session.add(Job(id="j", person_id="p", kind="train", place=1.0, settings={"begin_from": None}))
        session.flush()
        session.add(TrainedAdapter(id="late", person_id="p", job_id="j", round=1, num_answers=1))
        session.flush()
        session.add(TrainedAdapter(id="early", person_id="p", job_id="j", round=2, num_answers=2, begun_from="late"))
        session.add(Event(person="p", event="exported", about={"n": 1}))
    rate(database, folder, "p", 1)
    with database.changing() as session:
        picture = session.scalars(select(Picture)).one()
        session.add(Feature(picture_id=picture.id, encoder="e", vector=b"\0\1\xff"))
    (job_folder(folder, "p", "j") / "run").mkdir(parents=True)
    (job_folder(folder, "p", "j") / "run" / "metrics.jsonl").write_text("{}\n")


def rows(database: Database) -> dict[str, list[Any]]:
    with database.engine.connect() as connection:
        return {
            table.name: sorted(connection.execute(select(table)).all(), key=str)
            for table in Table.metadata.sorted_tables
        }


def test_a_restored_studio_is_the_same_in_either_database(
    database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fill(database, tmp_path / "studio")
    back_up(database, tmp_path / "studio", tmp_path / "studio.zip")
    for name, url in (("file", None), ("server", request.getfixturevalue("fresh_database")())):
        new = open_database(tmp_path / name, url)
        counts = restore(tmp_path / "studio.zip", new, tmp_path / name)
        assert counts["answers"] == counts["pictures"] == 1
        assert rows(new) == rows(database)
        assert (job_folder(tmp_path / name, "p", "j") / "run" / "metrics.jsonl").read_text() == "{}\n"
        rate(new, tmp_path / name, "p", 2)  # numbers go on
        new.close()
    assert not list((tmp_path / "studio").glob(".backup-*"))


def test_a_backup_amid_ratings_is_of_one_moment(database: Database, tmp_path: Path) -> None:
    fill(database, tmp_path / "studio")
    stop = threading.Event()

    def go_on() -> None:
        number = 2
        while not stop.is_set():
            rate(database, tmp_path / "studio", "p", number)
            number += 1

    rating = threading.Thread(target=go_on)
    rating.start()
    for number in range(3):
        back_up(database, tmp_path / "studio", tmp_path / f"{number}.zip")
    stop.set()
    rating.join()
    before = 0
    for number in range(3):
        new = open_database(tmp_path / f"new{number}")
        restore(tmp_path / f"{number}.zip", new, tmp_path / f"new{number}")
        with new.session() as session:
            numbers = session.scalars(select(Answer.number).order_by(Answer.number)).all()
            shown = {picture for (picture,) in session.scalars(select(Answer.picture_ids))}
            pictures = session.scalars(select(Picture)).all()
        assert list(numbers) == list(range(1, len(numbers) + 1))
        assert shown == {picture.id for picture in pictures}
        assert all(picture_file(tmp_path / f"new{number}", "p", picture.id).is_file() for picture in pictures)
        assert len(numbers) >= before
        before = len(numbers)
        new.close()
    assert before > 1


def test_what_cannot_be_restored_is_a_sentence(tmp_path: Path) -> None:
    database = open_database(tmp_path / "studio")
    database.migrate()
    fill(database, tmp_path / "studio")
    back_up(database, tmp_path / "studio", tmp_path / "studio.zip")
    with pytest.raises(ConfigError, match="holds a studio already; choose another --folder"):
        restore(tmp_path / "studio.zip", database, tmp_path / "studio")
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Answer)) == 1
    (tmp_path / "text.zip").write_text("nothing")
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("backup.json", '{"format": 1, "revision": "0001"}')
        archive.writestr("pictures/../../escaped.png", b"")
    for name, why in (("text", "is no backup of a studio"), ("bad", "leads out of the folder")):
        with pytest.raises(DataError, match=why):
            restore(tmp_path / f"{name}.zip", open_database(tmp_path / name), tmp_path / name)
    assert not (tmp_path / "escaped.png").exists()
