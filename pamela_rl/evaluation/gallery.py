"""The pictures a comparison leaves on disk: PNG files and one list that says whose, which arm, prompt and seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_rl.errors import DataError
from pamela_rl.evaluation.compare import UserComparison
from pamela_rl.evaluation.contact_sheets import to_png
from pamela_rl.storage import folder_name, publish, recover, write_text

_FIELDS = {"user_id": str, "arm": str, "prompt": str, "seed": int, "file": str}


@dataclass(frozen=True)
class Picture:
    """One picture of a comparison.

    Attributes:
        user_id: For whom it was drawn.
        arm: By what: ``base``, ``own``, ``other``, or any other.
        prompt: What was asked for.
        seed: Of the noise it was drawn from.
        file: Where it lies.
    """

    user_id: str
    arm: str
    prompt: str
    seed: int
    file: Path


def save_gallery(folder: Path, comparisons: Sequence[UserComparison]) -> Path:
    """Write all pictures of all comparisons as PNG, and ``pictures.json``, the list of them.

    Args:
        folder: The run's folder; the pictures become ``pictures/`` in it, whole or not at all.
        comparisons: One a person.

    Returns:
        The folder with the pictures.
    """
    with publish(folder / "pictures") as partial:
        rows: list[dict[str, Any]] = []
        for comparison in comparisons:
            for arm, images in comparison.images.items():
                place = Path(folder_name(comparison.user_id)) / folder_name(arm)
                (partial / place).mkdir(parents=True)
                for number, (prompt, seed) in enumerate(zip(comparison.prompts, comparison.seeds, strict=True)):
                    file = place / f"{number:04d}.png"
                    (partial / file).write_bytes(to_png(images[number]))
                    row = {"user_id": comparison.user_id, "arm": arm, "prompt": prompt, "seed": seed}
                    rows.append({**row, "file": file.as_posix()})
        write_text(partial / "pictures.json", json.dumps(rows, indent=1) + "\n")
    return folder / "pictures"


def load_gallery(folder: Path) -> list[Picture]:
    """Read the list of a run's pictures; none of them is opened.

    Args:
        folder: The run's folder, as it was given to ``save_gallery``.

    Raises:
        DataError: There are no pictures, the list cannot be read, or an entry is wrong: a field is missing, its file
            is not there or lies outside the folder, or it stands there twice. Names list and entry.
    """
    pictures = recover(folder / "pictures")
    path = pictures / "pictures.json"
    if not path.is_file():
        raise DataError(f"there are no pictures in {folder} ({path} is missing); name the folder of a comparison.")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); make the comparison again.") from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} is not a list of pictures; make the comparison again.")
    found: dict[tuple[str, str, str, int], Picture] = {}
    for number, row in enumerate(rows, start=1):
        picture = _picture(row, pictures, f"{path}, entry {number}")
        key = (picture.user_id, picture.arm, picture.prompt, picture.seed)
        if key in found:
            raise DataError(f"{path}, entry {number}: {key} was there before; keep one picture of each.")
        found[key] = picture
    return list(found.values())


def _picture(row: Any, folder: Path, where: str) -> Picture:
    for name, kind in _FIELDS.items():
        if not isinstance(row, dict) or type(row.get(name)) is not kind:
            value = row.get(name) if isinstance(row, dict) else row
            raise DataError(f"{where}: {name} is {value!r}; it must be {'text' if kind is str else 'a whole number'}.")
    file = folder / row["file"]
    if not file.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{where}: file is {row['file']!r}, outside {folder}; pictures lie in that folder.")
    if not file.is_file():
        raise DataError(f"{where}: file is {row['file']!r}, which is not in {folder}; make the comparison again.")
    return Picture(row["user_id"], row["arm"], row["prompt"], row["seed"], file)
