"""A folder of images to rate: what was drawn for it, its table and its page. Needs no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_rl.errors import ConfigError, DataError
from pamela_rl.evaluation.rating_page import PAGE, fit_command, write_rating_page
from pamela_rl.evaluation.rating_sheet import SHEET, RatingSheet
from pamela_rl.storage import write_text

RECORD = "drawn.json"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif")  # what browsers show


@dataclass(frozen=True)
class DrawnImages:
    """What ``drawn.json`` says.

    Attributes:
        settings: Everything but prompts that an image depends on; the same for all images of a folder.
        prompts: Of each image, by its file name; in the order of their numbers.
    """

    settings: Mapping[str, Any]
    prompts: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, settings: Mapping[str, Any]) -> DrawnImages:
        """Read what was drawn into a folder with these settings; nothing where the folder is new.

        Raises:
            ConfigError: The folder holds something else, or images that were drawn with other settings.
            DataError: ``drawn.json`` cannot be read.
        """
        path = folder / RECORD
        if not path.exists():
            if folder.exists() and not (
                folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())
            ):
                raise ConfigError(
                    f"output_dir is {folder}, which is not empty and was not drawn by this recipe; choose another, or rate "
                    f"the images in it with --images {folder}."
                )
            return cls(settings, {})
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            drawn = cls(dict(content["settings"]), {str(name): str(text) for name, text in content["prompts"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} cannot be read ({error}); choose another --output_dir.") from error
        for name in (*settings, *drawn.settings):
            before, now = drawn.settings.get(name), settings.get(name)
            if before != now:
                raise ConfigError(
                    f"{name} is {now!r}, but the images in {folder} were drawn with {before!r}; set it so to add to them, "
                    "or choose another --output_dir."
                )
        return drawn

    def write(self, folder: Path) -> None:
        """Write ``drawn.json``."""
        content = {"settings": self.settings, "prompts": self.prompts}
        write_text(folder / RECORD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def own_images(folder: Path) -> list[str]:
    """List the images that a browser can show, in a folder and below it, as relative paths; hidden ones are left out.

    Raises:
        ConfigError: There is no such folder, or no such image in it.
        DataError: The name of a file is not Unicode.
    """
    if not folder.is_dir():
        raise ConfigError(f"images is {folder}, but there is no such folder; give the folder of your images.")
    files = (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    if not names:
        raise ConfigError(f"images is {folder}, which holds no {', '.join(_SUFFIXES)}; give the folder of your images.")
    for name in names:
        if any("\ud800" <= sign <= "\udfff" for sign in name):
            raise DataError(f"the file name {name!r} in {folder} is not Unicode; rename the file.")
    return names


def update_ratings(folder: Path, images: Sequence[str], prompts: Sequence[str] | None = None) -> RatingSheet:
    """Append images that ``ratings.csv`` lacks, without ratings, and write the page anew; what is rated stays.

    Args:
        folder: Of the images.
        images: Paths relative to it.
        prompts: Of each image; None makes a table without prompts.

    Returns:
        The whole table.

    Raises:
        DataError: The table cannot be read, or lacks a column.
    """
    path = folder / SHEET
    columns = ["image", "rating"] if prompts is None else ["image", "prompt", "rating"]
    sheet = RatingSheet.read(path) if path.exists() else RatingSheet.new(columns)
    known = {image.replace("\\", "/").removeprefix("./") for image in sheet.values("image")}
    texts = [""] * len(images) if prompts is None else prompts
    new = [{"image": i, "prompt": p} for i, p in zip(images, texts, strict=True) if i not in known]
    if new or not path.exists():
        sheet = sheet.extended(new)
        sheet.write(path)
    write_rating_page(folder, sheet)
    return sheet


def next_steps(folder: Path, sheet: RatingSheet) -> str:
    """Say what a folder holds and what to do next, with commands to paste."""
    page = shlex.quote(str(folder / PAGE))
    return f"""{len(sheet.rows)} images in {folder}, {sheet.num_rated} of them rated.

Next:
1. Open {page} in a browser (double-click it; it needs no network) and rate the images by the keys 1 to 5.
2. Press "Save ratings.csv" there and put the file into {folder}, in the place of the one that is there.
3. {fit_command(folder)}"""
