"""Tables of ratings and choices that people send: read in a limited process, with the images they are about."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from pamela_rl.data.delimited import decode_text
from pamela_rl.data.files import is_table
from pamela_rl.data.image_names import is_image
from pamela_rl.data.images import Files, ImageStore, open_files
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_tables
from pamela_rl.data.sources.own_tables import OFTEN_NO_TABLES
from pamela_rl.errors import DataError, PamelaError
from pamela_rl.studio.encoding import prepare
from pamela_rl.studio.limited import answer_all
from pamela_rl.studio.web.strings import say

MEGABYTES = 6144  # of memory; most of it is only reserved
SECONDS = 120  # to read a table
LOWEST, HIGHEST = 1.0, 5.0
LONGEST_CAPTION = 2000


class _Reader:
    """Answers the one who imports: first what a table says, then image by image."""

    def __init__(self) -> None:
        self.images: ImageStore | None = None

    def __call__(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return self._image(request) if "image" in request else ({}, json.dumps(self._table(request)).encode())
        except MemoryError:
            return {"why": say("errors.table_too_large")}, b""
        except PamelaError as error:
            return {"why": " ".join(str(error).split())}, b""
        except Exception as error:  # whatever a reader stumbles over is the file's fault
            return {"why": f"it cannot be read ({' '.join(str(error).split())[:200]})"}, b""

    def _table(self, request: dict[str, Any]) -> dict[str, Any]:
        Image.MAX_IMAGE_PIXELS = request["pixels"] // 2  # Pillow refuses what has more than twice as many
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        source = SourceSettings(path=request["path"], images=request["images"], on_bad_row="skip")
        try:
            rated, choices = read_tables(source)
        except DataError:
            alone = _pictures_alone(Path(request["path"]))
            if alone is None:
                raise
            self.images = alone
            told = [{"image": name, "prompt": _caption(alone, name)} for name in alone.file_names() if is_image(name)]
            return {"ratings": told, "choices": []}
        self.images, scale = rated.images, rated.table.scale
        raters = {str(user) for table in (rated.table, choices) if table is not None for user in table.rows["user_id"]}
        if len(raters) > 1:
            raise DataError(say("errors.several_raters", n=len(raters)))
        ratings = rated.table.rows.reindex(columns=["image", "rating", "prompt"])
        ratings["rating"] = LOWEST + (ratings["rating"] - scale.low) / (scale.high - scale.low) * (HIGHEST - LOWEST)
        told = (
            [] if choices is None else _rows(choices.rows.reindex(columns=["image_a", "image_b", "choice", "prompt"]))
        )
        return {"ratings": _rows(ratings), "choices": told, "skipped": [str(part) for part in rated.skipped]}

    def _image(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        assert self.images is not None
        return prepare(self.images.open(request["image"]), request["longest_side"]).parts()


def _rows(table: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in json.loads(table.to_json(orient="records"))]


def _pictures_alone(path: Path) -> Files | None:
    """Return the files of a folder or zip of images in which nothing else could be a table."""
    if not path.is_dir() and path.suffix.lower() != ".zip":
        return None
    files = open_files(path)
    names = files.file_names()
    tables = [name for name in names if is_table(name) and not name.lower().endswith(OFTEN_NO_TABLES)]
    return files if not tables and any(map(is_image, names)) else None


def _caption(files: Files, image: str) -> str:
    """Return the text beside an image, as tools that train keep their captions."""
    name = str(PurePosixPath(image).with_suffix(".txt"))
    return decode_text(files.read(name)[:LONGEST_CAPTION]).strip() if files.has_file(name) else ""


if __name__ == "__main__":
    answer_all(_Reader(), MEGABYTES, SECONDS)
