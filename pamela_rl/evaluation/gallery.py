"""The images of a comparison on disk: PNG files, and a list with user, arm, prompt and seed of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pamela_rl.errors import DataError
from pamela_rl.storage import folder_name, publish, recover, write_text

if TYPE_CHECKING:
    from pamela_rl.evaluation.compare import UserComparison

_FIELDS = {"user_id": str, "arm": str, "prompt": str, "seed": int, "file": str}


@dataclass(frozen=True)
class ComparisonImage:
    """One image of a comparison.

    Attributes:
        user_id: The user it was generated for.
        arm: The arm that drew it: ``base``, ``own``, ``other``, or any other.
        prompt: The prompt.
        seed: Of its initial noise.
        file: Its path.
    """

    user_id: str
    arm: str
    prompt: str
    seed: int
    file: Path


def save_gallery(folder: Path, comparisons: Sequence[UserComparison]) -> Path:
    """Write the images of all comparisons as PNG files, with ``pictures.json`` as their list.

    Args:
        folder: The run's folder; ``pictures/`` is created in it, whole or not at all.
        comparisons: One per user.

    Returns:
        The folder with the images.
    """
    from pamela_rl.evaluation.contact_sheets import to_png

    with publish(folder / "pictures") as partial:
        rows: list[dict[str, Any]] = []
        for comparison in comparisons:
            for arm, images in comparison.images.items():
                subfolder = Path(folder_name(comparison.user_id)) / folder_name(arm)
                (partial / subfolder).mkdir(parents=True)
                for number, (prompt, seed) in enumerate(zip(comparison.prompts, comparison.seeds, strict=True)):
                    file = subfolder / f"{number:04d}.png"
                    (partial / file).write_bytes(to_png(images[number]))
                    row = {"user_id": comparison.user_id, "arm": arm, "prompt": prompt, "seed": seed}
                    rows.append({**row, "file": file.as_posix()})
        write_text(partial / "pictures.json", json.dumps(rows, indent=1) + "\n")
    return folder / "pictures"


def load_gallery(folder: Path) -> list[ComparisonImage]:
    """Read the list of a run's images, without opening the images.

    Args:
        folder: The run's folder, as it was given to ``save_gallery``.

    Raises:
        DataError: There are no pictures, the list cannot be read, or an entry is wrong: a field is missing, its file
            is missing or outside the folder, or an entry is there twice. Names list and entry.
    """
    images_folder = recover(folder / "pictures")
    path = images_folder / "pictures.json"
    if not path.is_file():
        raise DataError(f"there are no pictures in {folder} ({path} is missing); name the folder of a comparison.")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); make the comparison again.") from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} is not a list of pictures; make the comparison again.")
    loaded: dict[tuple[str, str, str, int], ComparisonImage] = {}
    for number, row in enumerate(rows, start=1):
        image = _parse_row(row, images_folder, f"{path}, entry {number}")
        key = (image.user_id, image.arm, image.prompt, image.seed)
        if key in loaded:
            raise DataError(f"{path}, entry {number}: {key} was there before; keep one picture of each.")
        loaded[key] = image
    return list(loaded.values())


def _parse_row(row: Any, folder: Path, where: str) -> ComparisonImage:
    for name, kind in _FIELDS.items():
        if not isinstance(row, dict) or type(row.get(name)) is not kind:
            value = row.get(name) if isinstance(row, dict) else row
            raise DataError(f"{where}: {name} is {value!r}; it must be {'text' if kind is str else 'a whole number'}.")
    file = folder / row["file"]
    if not file.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{where}: file is {row['file']!r}, outside {folder}; pictures lie in that folder.")
    if not file.is_file():
        raise DataError(f"{where}: file is {row['file']!r}, which is not in {folder}; make the comparison again.")
    return ComparisonImage(row["user_id"], row["arm"], row["prompt"], row["seed"], file)
