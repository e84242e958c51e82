"""All of one person in a zip: written by one studio, taken in by the same or another.

Whoever sends one may have written it themselves: every value is checked, every id is made anew, pictures are decoded as any
upload, and of an adapter only weights as safetensors and texts are taken.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from sqlalchemy.orm import Session

from pamela_rl.data.decoding import READ_FAILURES
from pamela_rl.errors import DataError
from pamela_rl.studio.adapters import adapter_folder
from pamela_rl.studio.database.access import of
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Answer, BlindPair, Job, Person, Picture, Question, TrainedAdapter
from pamela_rl.studio.exporting import Foretells, Member, as_csv, how_to_load, rated, reward_members
from pamela_rl.studio.pictures import picture_file
from pamela_rl.studio.web.strings import say

MANIFEST = "studio.json"
MOST_BYTES = 200 * 2**20  # of the manifest; of one picture
MOST_GROWTH = 4  # of what is unpacked to the disk: weights hardly shrink in a zip
TAKEN = (".safetensors", ".json", ".md", ".png")  # of an adapter's files

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Pictures = Annotated[list[Id], Field(min_length=1, max_length=4)]
Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
Prompt = Annotated[str, Field(max_length=2000)]
Arm = Literal["own", "base", "search", "other"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", from_attributes=True)


class PictureRow(_Row):
    """A picture; its file is ``pictures/<id>.png``."""

    id: Id
    prompt: Prompt
    origin: Literal["upload", "import", "base", "adapter", "blind"]
    adapter_id: Id | None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None
    excluded: Literal["broken", "not_mine", "off_topic"] | None
    asked: Number


class QuestionRow(_Row):
    """A question that was answered."""

    id: Id
    kind: Literal["rating", "choice", "best_of_four"]
    picture_ids: Pictures
    at_random: bool
    created: datetime


class AnswerRow(_Row):
    """An answer."""

    number: Number
    question_id: Id | None
    said: Literal["rating", "choice", "skip", "cannot_say", "exclude"]
    picture_ids: Pictures
    value: Annotated[float, Field(ge=-1, le=5)] | None
    reason: Literal["broken", "not_mine", "off_topic"] | None
    at_random: bool
    source: Literal["studio", "blind", "import"]
    undone: datetime | None
    created: datetime

    @model_validator(mode="after")
    def _fits(self) -> AnswerRow:
        """Check that what is said can be said of so many pictures."""
        many, value = len(self.picture_ids), self.value
        fits = {
            "rating": many == 1 and value is not None and value >= 1,
            "choice": many > 1 and value is not None and value in range(-1, many),
        }
        if not fits.get(self.said, value is None):
            raise ValueError("the answer does not fit")
        return self


class JobRow(_Row):
    """A training or comparison that is done."""

    id: Id
    kind: Literal["train", "compare"]
    created: datetime


class AdapterRow(_Row):
    """An adapter; its files are in ``adapters/<id>/``."""

    id: Id
    job_id: Id
    begun_from: Id | None
    round: Number
    num_answers: Number
    strength: Annotated[float, Field(ge=0, le=10)]
    created: datetime


class PairRow(_Row):
    """A blind pair."""

    job_id: Id
    number: Number
    prompt: Prompt
    left_id: Id
    right_id: Id
    left_arm: Arm
    right_arm: Arm
    chosen: Literal["left", "right", "tie"] | None


class Wishes(_Row):
    """How a person is asked."""

    kind: Literal["rating", "choice", "best_of_four"] | None = None
    source: Literal["own", "drawn", "both"] | None = None
    prompts: Annotated[list[Prompt], Field(max_length=200)] | None = None


class Everything(_Row):
    """What ``studio.json`` holds."""

    format: Literal[1] = 1
    name: Annotated[str, Field(max_length=200)]
    settings: Wishes
    pictures: list[PictureRow]
    questions: list[QuestionRow]
    answers: list[AnswerRow]
    jobs: list[JobRow]
    adapters: list[AdapterRow]
    blind_pairs: list[PairRow]


def read_everything(session: Session, person_id: str) -> Everything:
    """Return all of a person that is in the database."""
    person = session.get_one(Person, person_id)
    done = of(Job, person_id).where(Job.kind.in_(("train", "compare")), Job.state == "done")
    return Everything.model_validate(
        {
            "name": person.name,
            "settings": person.settings,
            "pictures": session.scalars(of(Picture, person_id)).all(),
            "questions": session.scalars(of(Question, person_id).where(Question.state == "answered")).all(),
            "answers": session.scalars(of(Answer, person_id).order_by(Answer.number)).all(),
            "jobs": session.scalars(done).all(),
            "adapters": session.scalars(of(TrainedAdapter, person_id).order_by(TrainedAdapter.round)).all(),
            "blind_pairs": session.scalars(of(BlindPair, person_id)).all(),
        }
    )


def members(database: Database, folder: Path, person_id: str, taste: Foretells) -> Iterator[Member]:
    """Yield the files of a zip with everything of a person: it can be taken in again, and read without this program."""
    with database.session() as session:
        told = read_everything(session, person_id)
        table = rated(session, person_id, taste)
        adapters = {row.id: adapter_folder(folder, row) for row in session.scalars(of(TrainedAdapter, person_id))}
    yield MANIFEST, told.model_dump_json(indent=1).encode()
    yield "ratings.csv", as_csv(table).encode()
    yield "ratings.json", json.dumps(table, indent=1).encode()
    yield from reward_members(taste, person_id, folder)
    for picture in told.pictures:
        yield f"pictures/{picture.id}.png", picture_file(folder, person_id, picture.id)
    for id, place in adapters.items():
        if place.is_dir():
            yield f"adapters/{id}/LOAD.md", how_to_load(place).encode()
            for file in sorted(place.iterdir()):
                yield f"adapters/{id}/{file.name}", file


def is_everything(path: Path) -> bool:
    """Return whether a file is a zip that a studio wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.NameToInfo
    except (OSError, zipfile.BadZipFile):
        return False


def open_everything(archive: zipfile.ZipFile) -> Everything:
    """Return what a zip says, checked.

    Raises:
        DataError: It is no export of a studio, or says what cannot be.
    """
    try:
        return Everything.model_validate_json(unpacked(archive, MANIFEST))
    except ValidationError as error:
        raise DataError(say("errors.no_export")) from error


def unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's bytes; nothing where there is none, it is broken, or larger than it may be."""
    try:
        member = archive.getinfo(name)
        return archive.read(member) if member.file_size <= MOST_BYTES else b""
    except READ_FAILURES:
        return b""


def take_adapter(archive: zipfile.ZipFile, id: str, folder: Path) -> bool:
    """Unpack an adapter's files into its folder; return whether there are weights among them that can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    for member in archive.infolist():
        place, _, name = member.filename.rpartition("/")
        plain = Path(name).name == name and not name.startswith(".") and name.lower().endswith(TAKEN)
        if place == f"adapters/{id}" and plain and member.file_size <= MOST_GROWTH * member.compress_size + 2**20:
            with suppress(*READ_FAILURES), archive.open(member) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    try:
        how_to_load(folder)
        for file in (folder / "pytorch_lora_weights.safetensors", *folder.glob("*.safetensors")):
            with safe_open(file, framework="numpy"):
                pass
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError):  # adapter.json may say anything
        shutil.rmtree(folder)
        return False
    return True
