"""What people take home: their ratings as a table, the pictures they like, their adapters, and everything."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from pamela_rl.diffusion.saved_adapters import adapter_base_model, recommended_strength
from pamela_rl.errors import PamelaError
from pamela_rl.storage import SHIPPED_PIPELINES, ensure_writable
from pamela_rl.studio.database.access import of
from pamela_rl.studio.database.schema import Answer, Picture
from pamela_rl.studio.pictures import picture_file

COLUMNS = ("image", "rating", "predicted_mean", "predicted_std", "prompt", "excluded")
Member = tuple[str, bytes | Path]


class Foretells(Protocol):
    """What exports need of the part that knows people's taste."""

    def predict(self, person_id: str, picture_ids: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return mean and standard deviation of ratings, by picture; nothing as long as nothing is known."""

    def save(self, person_id: str, folder: Path) -> None:
        """Write a person's reward to a folder, or raise a PamelaError where nothing is known of them yet."""


def given_ratings(session: Session, person_id: str) -> dict[str, float]:
    """Return a person's ratings by picture; the last one of each counts."""
    query = select(Answer.picture_ids, Answer.value).where(
        Answer.person_id == person_id, Answer.said == "rating", Answer.undone.is_(None)
    )
    return {pictures[0]: value for pictures, value in session.execute(query.order_by(Answer.number))}


def rated(session: Session, person_id: str, taste: Foretells) -> list[dict[str, Any]]:
    """Return a row of ``COLUMNS`` for each picture of a person; what is not known is None."""
    pictures = session.scalars(of(Picture, person_id).order_by(Picture.created, Picture.id)).all()
    given = given_ratings(session, person_id)
    foretold = taste.predict(person_id, [picture.id for picture in pictures])
    return [
        dict(
            zip(
                COLUMNS,
                (f"pictures/{picture.id}.png", given.get(picture.id), *foretold.get(picture.id, (None, None)),
                 picture.prompt, picture.excluded),
            )
        )
        for picture in pictures
    ]  # fmt: skip


def as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as CSV; no text in them is a formula to a spreadsheet."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    for row in rows:
        writer.writerow(
            row | {"prompt": f"'{row['prompt']}" if row["prompt"][:1] in tuple("=+-@\t\r") else row["prompt"]}
        )
    return stream.getvalue()


def liked(session: Session, folder: Path, person_id: str, least: float) -> dict[str, Path]:
    """Return the files of the pictures that a person rated so high, by their names."""
    found = {f"{id}.png": picture_file(folder, person_id, id) for id, value in given_ratings(session, person_id).items()
             if value >= least}  # fmt: skip
    return {name: file for name, file in found.items() if file.is_file()}


def copy_into(files: dict[str, Path], folder: Path) -> int:
    """Copy files into a folder, over nothing that is there already; return how many.

    Raises:
        ConfigError: It cannot be written to.
    """
    wanted = {name: file for name, file in files.items() if not (ensure_writable(folder) / name).exists()}
    for name, file in wanted.items():
        shutil.copyfile(file, folder / name)
    return len(wanted)


def adapter_members(adapter: Path) -> Iterator[Member]:
    """Yield an adapter's files, with the lines that load it."""
    yield "LOAD.md", how_to_load(adapter).encode()
    for file in sorted(adapter.iterdir()):
        if file.is_file():
            yield file.name, file


def how_to_load(adapter: Path) -> str:
    """Return five lines that load an adapter with diffusers, and where ComfyUI wants it."""
    base = adapter_base_model(adapter) or "the base model it was trained on"
    strength = recommended_strength(adapter)
    shipped = base in SHIPPED_PIPELINES
    opened = f'SHIPPED_PIPELINES["{base}"]' if shipped else json.dumps(base)
    imported = "\nfrom pamela_rl.storage import SHIPPED_PIPELINES" * shipped
    return f"""With diffusers, in the folder with these files:

```python
from diffusers import DiffusionPipeline{imported}
pipe = DiffusionPipeline.from_pretrained({opened})
pipe.load_lora_weights(".", weight_name="pytorch_lora_weights.safetensors", adapter_name="mine")
pipe.set_adapters("mine", {strength:g})
pipe("what you want to see").images[0].save("mine.png")
```

With ComfyUI: put `comfyui.safetensors`, if it is among them, into `models/loras` and load it with "Load LoRA" at {strength:g}.
"""


def reward_members(taste: Foretells, person_id: str, folder: Path) -> Iterator[Member]:
    """Yield the files of a person's reward, an ordinary one; none where nothing is known yet.

    Args:
        taste: What knows it.
        person_id: Whose.
        folder: To write it in meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix=".reward-", dir=folder) as place:
        try:
            taste.save(person_id, Path(place) / "reward")
        except PamelaError:
            return
        for file in sorted(Path(place).rglob("*")):
            if file.is_file():
                yield file.relative_to(place).as_posix(), file


def zipped(members: Iterable[Member]) -> Iterator[bytes]:
    """Yield a zip bit by bit, so that it is nowhere as a whole; files that have gone are left out."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            if isinstance(content, bytes):
                archive.writestr(name, content)
            elif content.is_file():
                archive.write(content, name)
            yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Keep bytes."""
        self._kept += data
        return len(data)

    def take(self) -> bytes:
        """Return what is kept, and forget it."""
        taken = bytes(self._kept)
        self._kept.clear()
        return taken
