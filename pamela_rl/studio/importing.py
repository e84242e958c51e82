"""What people bring along: pictures of a folder, and tables of what somebody said about pictures elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pamela_rl.errors import DataError
from pamela_rl.studio.answers import next_number
from pamela_rl.studio.database.access import of
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Answer, Picture
from pamela_rl.studio.encoding import Prepared
from pamela_rl.studio.limited import Gone, LimitedProcess
from pamela_rl.studio.pictures import add_picture
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.strings import say

PATIENCE = 600  # seconds by the clock, to read a table
CHOSEN = {"a": 0.0, "b": 1.0, "tie": -1.0}
LONGEST_PROMPT = 2000


@dataclass
class Imported:
    """What came in.

    Attributes:
        added: Pictures that were not there before.
        ratings: Ratings and choices.
        refused: Name and reason of each picture, row or portion of rows that was not taken.
    """

    added: int = 0
    ratings: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def import_table(
    database: Database, settings: StudioSettings, person_id: str, path: Path, images: Path | None = None,
    name: str | None = None,
) -> Imported:  # fmt: skip
    """Take in a table of ratings or choices with its images, a rated folder, or pictures alone.

    Whatever ``pamela_rl.data.sources`` reads is read. What came in before is not taken a second time.

    Args:
        database: Of the studio.
        settings: Of the studio.
        person_id: Whose it becomes.
        path: The file or folder.
        images: Folder or zip of the images, where they are not beside or inside.
        name: To call the file by in messages; None is its path.

    Raises:
        DataError: It cannot be read; says why.
    """
    wanted = {
        "path": str(path), "images": None if images is None else str(images),
        "pixels": settings.uploads.megapixels * 10**6, "longest_side": settings.uploads.longest_side,
    }  # fmt: skip
    shown = {str(path): name or str(path)} | ({} if images is None else {str(images): "the images"})
    with LimitedProcess("pamela_rl.studio.tables", PATIENCE) as reader:
        told = _read(reader, wanted, shown)
        imported = Imported(refused=[(name or path.name, _renamed(why, shown)) for why in told.get("skipped", [])])
        rows = [*told["ratings"], *told["choices"]]
        prompts: dict[str, str] = {}
        for row in rows:
            for column in ("image", "image_a", "image_b"):
                if column in row:
                    prompts.setdefault(row[column], str(row.get("prompt") or "")[:LONGEST_PROMPT])
        ids = {}
        for image, made in _images(reader, wanted, shown, prompts):
            kept = (
                made if isinstance(made, str) else _keep(database, settings, person_id, made, prompts[image], imported)
            )
            if isinstance(kept, Picture):
                ids[image] = kept.id
            else:
                imported.refused.append((Path(image).name, kept))
    _answer(database, person_id, rows, ids, imported)
    return imported


def has_room(session: Session, settings: StudioSettings, person_id: str) -> bool:
    """Return whether a person may have another picture."""
    query = select(func.count(Picture.id)).where(Picture.person_id == person_id)
    return (session.scalar(query) or 0) < settings.uploads.pictures


def _read(reader: LimitedProcess, wanted: dict[str, Any], shown: dict[str, str]) -> dict[str, Any]:
    try:
        head, data = reader.ask(wanted)
    except Gone as error:
        raise DataError(say("errors.table_too_large")) from error
    if "why" in head:
        raise DataError(_renamed(head["why"], shown))
    told: dict[str, Any] = json.loads(data)
    return told


def _images(
    reader: LimitedProcess, wanted: dict[str, Any], shown: dict[str, str], names: Iterable[str]
) -> Iterator[tuple[str, Prepared | str]]:
    for name in names:
        try:
            head, encoded = reader.ask({"image": name, "longest_side": wanted["longest_side"]})
        except Gone:
            yield name, say("errors.image_too_large")
            _read(reader, wanted, shown)  # in a new process
            continue
        yield name, _renamed(head["why"], shown) if "why" in head else Prepared.from_parts(head, encoded)


def _keep(
    database: Database, settings: StudioSettings, person_id: str, made: Prepared, prompt: str, imported: Imported
) -> Picture | str:
    with database.changing() as session:
        if not has_room(session, settings, person_id):
            return say("errors.library_full", most=settings.uploads.pictures)
        before = session.scalar(of(Picture, person_id).where(Picture.digest == made.digest))
        if before is not None:
            return before
        imported.added += 1
        return add_picture(session, settings.folder, person_id, made, prompt=prompt, origin="import")


def _answer(
    database: Database, person_id: str, rows: list[dict[str, Any]], ids: dict[str, str], imported: Imported
) -> None:
    """Store what the rows say about pictures that are there, without what was imported before."""
    with database.changing() as session:
        number = next_number(session, person_id)
        before = {
            (answer.said, tuple(answer.picture_ids), answer.value)
            for answer in session.scalars(of(Answer, person_id).where(Answer.source == "import"))
        }
        for row in rows:
            names = [row[column] for column in ("image", "image_a", "image_b") if column in row]
            value = CHOSEN.get(row["choice"]) if "choice" in row else row.get("rating")
            if value is None or not all(name in ids for name in names):
                continue
            said, pictures = "choice" if "choice" in row else "rating", [ids[name] for name in names]
            if (said, tuple(pictures), value) in before:
                continue
            before.add((said, tuple(pictures), value))
            for picture in pictures:
                session.get_one(Picture, picture).asked += 1
            session.add(
                Answer(
                    person_id=person_id, number=number, said=said, picture_ids=pictures, value=value, source="import"
                )
            )  # fmt: skip
            number, imported.ratings = number + 1, imported.ratings + 1


def _renamed(sentence: str, shown: dict[str, str]) -> str:
    for path, name in shown.items():
        sentence = sentence.replace(path, name)
    return sentence
