"""The database of the image browser of Stable Diffusion web UIs (stable-diffusion-webui-images-browser).

Its ``wib.sqlite3`` has a table ``ranking`` with ``file``, the path on the machine where images were ranked, ``name``, and
``ranking``: "1" to "5", or "None". What it wrote earlier, ``ranking.json``, is an object of ratings by image as any other.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

from pamela_rl.data.images import open_files
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.exports import Source, named, ratings_of
from pamela_rl.errors import DataError

FILE = "wib.sqlite3"
QUERY = "SELECT file AS image, ranking AS rating FROM ranking WHERE ranking NOT IN ('None', '0', '') ORDER BY file"


def recognises(path: Path) -> bool:
    """Return whether the path is such a database, or a folder with one."""
    file = path / FILE if path.is_dir() else path
    return file.suffix == ".sqlite3" and file.is_file()


def read(path: Path, settings: SourceSettings) -> Source:
    """Read the ranking as ratings.

    Raises:
        DataError: It is another database, or an image is not found.
    """
    path = path / FILE if path.is_dir() else path
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            rows = pd.DataFrame(connection.execute(QUERY).fetchall(), columns=["image", "rating"], dtype=str)
    except sqlite3.Error as error:
        raise DataError(f"cannot read the ranking in {path} ({error}); give the {FILE} of an image browser.") from error
    images = open_files(settings.images or path.parent)
    return ratings_of(rows, str(path), images, settings, named(rows, settings))
