"""What one has can be brought along, taken home, taken in again, and removed with everything that came from it."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from sqlalchemy import select
from visitors import Browser, add_somebody, error, png

from pamela_rl.studio.adapters import adapter_folder
from pamela_rl.studio.asking import only_measures
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import (
    Answer,
    BlindPair,
    Event,
    Job,
    Person,
    Picture,
    Question,
    Table,
    TrainedAdapter,
)
from pamela_rl.studio.pictures import add_picture, jobs_folder, pictures_folder
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.app import create_app


class Place:
    """A studio at the keyboard, with Ada, who has one of everything, and Bob, who has nothing."""

    def __init__(self, folder: Path):
        self.folder, self.database = folder, open_database(folder)
        self.database.migrate()
        with self.database.changing() as session:
            self.ada, _ = add_somebody(session, folder, "Ada")
            bob = Person(name="Bob")
            session.add(bob)
            session.flush()
            self.bob = bob.id
            adapter = session.get_one(TrainedAdapter, self.ada["adapter"])
        save_file({"a": np.ones(2)}, adapter_folder(folder, adapter) / "pytorch_lora_weights.safetensors")
        self.app = create_app(StudioSettings(folder=folder, workers=0), self.database)

    def browser(self, person: str) -> Browser:
        """A browser in which somebody was chosen."""
        browser = Browser(self.app, base_url="http://127.0.0.1")
        assert browser.post("/api/here", json={"person": person}).json() == {}
        chosen = Browser(self.app, base_url="http://127.0.0.1")
        chosen.cookies.set("studio_here", person)
        chosen.headers["x-csrf-token"] = chosen.get("/", headers={"accept": "text/html"}).text.split(
            'name="csrf" content="'
        )[1][:64]
        return chosen


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "studio")
    yield made
    made.database.close()


def rows(database: Database, person: str) -> dict[str, list[tuple[Any, ...]]]:
    """What somebody has, without ids."""
    with database.session() as session:
        digests = {picture.id: picture.digest for picture in session.scalars(select(Picture))}
        answers = session.scalars(select(Answer).where(Answer.person_id == person).order_by(Answer.number))
        pictures = session.scalars(select(Picture).where(Picture.person_id == person)).all()
        pairs = session.scalars(select(BlindPair).where(BlindPair.person_id == person))
        adapters = session.scalars(select(TrainedAdapter).where(TrainedAdapter.person_id == person))
        questions = select(Question).where(Question.person_id == person, Question.state == "answered")
        return {
            "answers": [(a.said, a.value, [digests[p] for p in a.picture_ids], a.source, a.created) for a in answers],
            "pictures": sorted((p.digest, p.prompt, p.origin, p.asked, only_measures(p.id)) for p in pictures),
            "pairs": [(b.number, digests[b.left_id], digests[b.right_id], b.left_arm, b.chosen) for b in pairs],
            "adapters": [(a.round, a.num_answers, a.strength, a.created) for a in adapters],
            "questions": [(q.kind, [digests[p] for p in q.picture_ids]) for q in session.scalars(questions)],
        }


def test_everything_can_be_taken_in_again_and_only_once(place: Place) -> None:
    ada, bob = place.browser(place.ada["person"]), place.browser(place.bob)
    everything = ada.get("/export/everything.zip").content
    names = zipfile.ZipFile(io.BytesIO(everything)).namelist()
    assert {"studio.json", "ratings.csv", "ratings.json", f"adapters/{place.ada['adapter']}/LOAD.md"} <= set(names)
    told = bob.post("/api/imports/everything", files={"file": ("ada.zip", everything)}).json()
    assert (told["added"], told["ratings"], told["refused"]) == (3, 11, [])
    assert rows(place.database, place.bob) == rows(place.database, place.ada["person"])
    assert bob.post("/api/imports", files={"file": ("ada.zip", everything)}).json() == {
        "added": 0,
        "ratings": 0,
        "refused": [],
    }
    assert rows(place.database, place.bob) == rows(place.database, place.ada["person"])
    with place.database.session() as session:
        theirs = session.scalars(select(TrainedAdapter).where(TrainedAdapter.person_id == place.bob)).one()
    assert (adapter_folder(place.folder, theirs) / "pytorch_lora_weights.safetensors").is_file()
    assert bob.get(f"/api/jobs/{theirs.job_id}").json()["state"] == "done"
    assert len(bob.get("/api/pictures").json()["pictures"]) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["answers"][0].update(value=9.0),
        lambda told: told["answers"][0].update(said="choice"),
        lambda told: told["pictures"][0].update(id="../../x"),
        lambda told: told["pictures"][0].update(origin="elsewhere"),
        lambda told: told.update(format=2),
        lambda told: told.pop("answers"),
    ],
)
def test_an_export_that_says_what_cannot_be_is_refused_whole(place: Place, change: Any) -> None:
    bob = place.browser(place.bob)
    archive = zipfile.ZipFile(io.BytesIO(place.browser(place.ada["person"]).get("/export/everything.zip").content))
    told = json.loads(archive.read("studio.json"))
    change(told)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as changed:
        changed.writestr("studio.json", json.dumps(told))
    before = rows(place.database, place.bob)
    reply = bob.post("/api/imports/everything", files={"file": ("x.zip", stream.getvalue())})
    assert (reply.status_code, error(reply)) == (400, "This is no export of a studio; give the zip that one gave you.")
    assert rows(place.database, place.bob) == before


def test_tables_come_in_and_go_out(place: Place, tmp_path: Path) -> None:
    bob, folder = place.browser(place.bob), tmp_path / "mine"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(6, 6, (number, 0, 0)))
        (folder / f"{number}.txt").write_text(f"cup {number}")
    assert bob.post("/api/imports/folder", json={"path": str(folder)}).json() == {
        "added": 4,
        "ratings": 0,
        "refused": [],
    }
    (folder / "ratings.csv").write_text('file;stars\n0.png;"1"\n1.png;5\n2.png;4\n')
    assert bob.post("/api/imports/folder", json={"path": str(folder)}).json()["ratings"] == 3
    (folder / "ratings.csv").rename(tmp_path / "elsewhere.csv")
    with sqlite3.connect(folder / "wib.sqlite3") as browser:
        browser.execute("CREATE TABLE ranking (file TEXT PRIMARY KEY, name TEXT, ranking TEXT)")
        browser.executemany(
            "INSERT INTO ranking VALUES (?, '', ?)", [("C:\\out\\3.png", "2"), ("C:\\out\\2.png", "None")]
        )
    browser.close()
    assert bob.post("/api/imports/folder", json={"path": str(folder)}).json()["ratings"] == 1
    comparisons = ("comparisons.csv", b"Winner,Loser\n/x/1.png,/x/0.png\nNone,/x/2.png\n")
    images = io.BytesIO()
    with zipfile.ZipFile(images, "w") as archive:
        for number in range(4):
            archive.write(folder / f"{number}.png", f"{number}.png")
    told = bob.post("/api/imports", files={"file": comparisons, "images": ("images.zip", images.getvalue())}).json()
    assert told == {"added": 0, "ratings": 1, "refused": []}
    table = list(csv.DictReader(io.StringIO(bob.get("/export/ratings.csv").text)))
    assert sorted((row["prompt"], row["rating"]) for row in table) == [
        ("cup 0", "1.0"), ("cup 1", "5.0"), ("cup 2", "4.0"), ("cup 3", "2.0")
    ]  # fmt: skip
    assert [row["rating"] for row in bob.get("/export/ratings.json").json()] == [float(row["rating"]) for row in table]
    assert bob.post("/api/liked/copy", json={"least": 4, "folder": str(tmp_path / "liked")}).json() == {"copied": 2}
    assert len(list((tmp_path / "liked").iterdir())) == 2
    given = bob.get("/api/pictures?order=given").json()["pictures"]
    assert [picture["rating"] for picture in given] == [5.0, 4.0, 2.0, 1.0]
    assert len(bob.get("/api/pictures?liked=true").json()["pictures"]) == 2
    reply = bob.post("/api/imports/folder", json={"path": str(tmp_path / "nowhere")})
    assert (reply.status_code, error(reply)) == (400, "There is no such folder or file on this machine.")


def test_no_prompt_is_a_formula_to_a_spreadsheet(place: Place) -> None:
    with place.database.changing() as session:
        add_picture(session, place.folder, place.bob, Image.new("RGB", (4, 4)), prompt="=HYPERLINK(1)", origin="upload")
    assert "'=HYPERLINK(1)" in place.browser(place.bob).get("/export/ratings.csv").text


def test_an_adapter_comes_with_five_lines_that_load_it(place: Place) -> None:
    reply = place.browser(place.ada["person"]).get(f"/adapters/{place.ada['adapter']}/download")
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    assert {"LOAD.md", "adapter.json", "pytorch_lora_weights.safetensors"} <= set(archive.namelist())
    assert 'set_adapters("mine", 0.75)' in archive.read("LOAD.md").decode()
    assert archive.testzip() is None


def test_a_person_goes_with_everything_that_came_from_them(place: Place) -> None:
    """Bob's adapter was begun from Ada's, Eve's from Bob's; both go, with what they drew, and Eve's own training stays."""
    with place.database.changing() as session:
        eve = Person(name="Eve")
        session.add(eve)
        session.flush()
        begun, others = place.ada["adapter"], []
        for number, owner in enumerate((place.bob, eve.id)):
            job = Job(person_id=owner, kind="train", state="done", place=1.0, settings={"begin_from": begun})
            session.add(job)
            session.flush()
            adapter = TrainedAdapter(person_id=owner, job_id=job.id, begun_from=begun, round=1, num_answers=9)
            session.add(adapter)
            session.flush()
            add_picture(
                session,
                place.folder,
                owner,
                Image.new("RGB", (4, 4), (number, 1, 1)),
                prompt="",
                origin="adapter",
                adapter_id=adapter.id,
            )
            begun, others = adapter.id, [*others, job]
            jobs_folder(place.folder, owner).joinpath(job.id, "run").mkdir(parents=True)
        own = Job(person_id=eve.id, kind="train", state="done", place=1.0, settings={"begin_from": None})
        session.add(own)
        session.flush()
        session.add(TrainedAdapter(id="stays", person_id=eve.id, job_id=own.id, round=2, num_answers=9))
        add_picture(session, place.folder, eve.id, Image.new("RGB", (4, 4), (9, 9, 9)), prompt="", origin="upload")
    ada = place.browser(place.ada["person"])
    reply = ada.request("DELETE", "/api/me", json={"confirm": "ada"})
    assert (reply.status_code, error(reply)) == (400, "Write the name, Ada, to remove it.")
    told = ada.request("DELETE", "/api/me", json={"confirm": "Ada"}).json()["went"]
    assert told[:7] == [
        "11 answers", "3 pictures", "3 jobs with their files", "1 adapter", "1 blind pair",
        "2 adapters of others that were begun from these", "2 pictures of others that such adapters drew",
    ]  # fmt: skip
    assert all(sentence.startswith("Kept: ") for sentence in told[7:])
    assert told[7:]
    with place.database.session() as session:
        assert [adapter.id for adapter in session.scalars(select(TrainedAdapter))] == ["stays"]
        assert [picture.person_id for picture in session.scalars(select(Picture))] == [eve.id]
        for table in Table.metadata.sorted_tables:
            if "person_id" in table.c:
                assert not session.execute(select(table).where(table.c.person_id == place.ada["person"])).all()
        deleted = session.scalars(select(Event).where(Event.event == "deleted")).one()
        assert deleted.about["answers"] == 11
        assert "Ada" not in str(deleted.about)
    assert not pictures_folder(place.folder, place.ada["person"]).exists()
    assert not jobs_folder(place.folder, place.ada["person"]).exists()
    assert not any(jobs_folder(place.folder, job.person_id).joinpath(job.id).exists() for job in others)
