"""Pictures as the studio keeps them: a PNG, a small JPEG, and a row."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from pamela_rl.studio.database.access import of
from pamela_rl.studio.database.schema import Picture, new_id
from pamela_rl.studio.encoding import Prepared, prepare


def add_picture(
    session: Session, folder: Path, person_id: str, image: Image.Image | Prepared, *, prompt: str, origin: str,
    adapter_id: str | None = None, seed: int | None = None, id: str | None = None,
) -> Picture:  # fmt: skip
    """Keep a picture of a person; one with the same pixels as an earlier one is that one.

    Args:
        session: That changes; the files are there before its row is.
        folder: Of the studio.
        person_id: Whose.
        image: The picture.
        prompt: It was made for, "" where that is not known.
        origin: One of ``schema.ORIGINS``.
        adapter_id: That drew it.
        seed: Of its noise.
        id: It shall have; None makes one.
    """
    prepared = image if isinstance(image, Prepared) else prepare(image)
    same = of(Picture, person_id).where(Picture.digest == prepared.digest)
    found = session.scalar(same)
    if found is not None:
        return found
    picture = Picture(
        id=id or new_id(), person_id=person_id, prompt=prompt, origin=origin, adapter_id=adapter_id, seed=seed,
        width=prepared.width, height=prepared.height, digest=prepared.digest,
    )  # fmt: skip
    pictures_folder(folder, person_id).mkdir(parents=True, exist_ok=True)
    picture_file(folder, person_id, picture.id).write_bytes(prepared.png)
    small_file(folder, person_id, picture.id).write_bytes(prepared.small)
    try:
        with session.begin_nested():
            session.add(picture)
    except IntegrityError:  # another process has just added it
        remove_files(folder, [picture])
        return session.scalars(same).one()
    return picture


def picture_file(folder: Path, person_id: str, picture_id: str) -> Path:
    """Return where a picture is."""
    return pictures_folder(folder, person_id) / f"{picture_id}.png"


def small_file(folder: Path, person_id: str, picture_id: str) -> Path:
    """Return where it is, small."""
    return pictures_folder(folder, person_id) / f"{picture_id}.small.jpg"


def pictures_folder(folder: Path, person_id: str) -> Path:
    """Return where a person's pictures are."""
    return folder / "pictures" / person_id


def jobs_folder(folder: Path, person_id: str) -> Path:
    """Return where a person's jobs have their folders."""
    return folder / "jobs" / person_id


def job_folder(folder: Path, person_id: str, job_id: str) -> Path:
    """Return the folder of a job."""
    return jobs_folder(folder, person_id) / job_id


def remove_files(folder: Path, pictures: Iterable[Picture]) -> None:
    """Remove the files of pictures whose rows are gone."""
    for picture in pictures:
        for file in (picture_file, small_file):
            file(folder, picture.person_id, picture.id).unlink(missing_ok=True)
