"""PAMELA (arXiv 2604.07427): 69,904 ratings of 5,077 generated images by 199 people.

The layout is that of public code that reads the archive; the archive itself was not available for tests:
``PAMELA/annotations/pamela_{train,val_seen,val_unseen,test_seen,test_unseen}.json``, each a list of
``{"participant_id", "image_id", "image_path": "./images/….png", "original_score": 1..5, "image_metadata": {"prompt",
"group", "style", "type"}, "user_demographics": {"age", "age_binned", "gender", "nationality"}}``, and
``PAMELA/images/*.png``; ``style`` is null for photorealism. Paths may also start with ``PAMELA/``. Not checked: that
demographics are the same in all rows of a person (a warning says if not), and that ``PAMELA.zip`` is the archive's name
on the hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.images import Files, find_files
from pamela_rl.data.ratings import SPLITS, RatingScale
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images, collect_raters
from pamela_rl.errors import DataError

HUB_ID = "bethgelab/PAMELA"
ARCHIVE = "PAMELA.zip"
METADATA = ("prompt", "group", "style", "type")
DEMOGRAPHICS = {f"user_{name}": name for name in ("age", "age_binned", "gender", "nationality")}
COLUMNS = {"user_id": "participant_id", "image": "image_path", "rating": "original_score"}


def read_pamela(
    path: str | Path = HUB_ID, *, splits: Sequence[str] = SPLITS, on_bad_row: OnBadRow = "stop"
) -> RatedImages:
    """Read PAMELA from its folder, its archive (in place, never unpacked), or the hub.

    ``group``, ``style`` and ``type`` of the images become columns, and demographics become the table of raters.

    Args:
        path: The folder with ``annotations`` or its parent, the archive, or a hub id. The archive of a hub id is
            downloaded once and cached by huggingface_hub.
        splits: Which of the five splits to read.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

    Raises:
        DataError: The data cannot be found, or a row is wrong; names file, row, value and remedy.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise DataError(f"splits are {', '.join(SPLITS)}; {list(splits)} was asked for.")
    place = Path(path)
    if not place.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and place.suffix != ".zip":
        place = _download(str(path))
    files = find_files(place, _file(splits[0]))
    parts = [_source_table(files, split) for split in splits]
    demographics = pd.concat([part.rows[["participant_id", *DEMOGRAPHICS]] for part in parts], ignore_index=True)
    raters = collect_raters(demographics, "participant_id", DEMOGRAPHICS, str(files))
    parts = [replace(part, rows=part.rows.drop(columns=list(DEMOGRAPHICS))) for part in parts]
    return build_rated_images(parts, str(files), files, RatingScale(1, 5), raters, on_bad_row)


def _file(split: str) -> str:
    return f"annotations/pamela_{split}.json"


def _source_table(files: Files, split: str) -> SourceTable:
    source = f"{files}/{_file(split)}"
    if not files.has_file(_file(split)):
        raise DataError(f"there is no {source}; add it, or name the splits that are there with splits=.")
    try:
        entries = json.loads(files.read(_file(split)))
    except (RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"cannot read {source} ({error}); download it again.") from error
    if not isinstance(entries, list):
        raise DataError(f"{source} is no list of ratings; download it again.")
    return SourceTable(source, _rows(entries).assign(split=split), COLUMNS, [])


def _rows(entries: list[Any]) -> pd.DataFrame:
    """Flatten nested entries into columns. Missing fields are left empty and found by the checks."""
    columns = {name: _values(entries, name) for name in (*COLUMNS.values(), "image_id")}
    images, demographics = _values(entries, "image_metadata"), _values(entries, "user_demographics")
    columns |= {name: _values(images, name) for name in METADATA}
    columns |= {column: _values(demographics, name) for column, name in DEMOGRAPHICS.items()}
    rows = pd.DataFrame(columns)
    paths = rows["image_path"].astype("str").str.removeprefix("./").str.removeprefix("PAMELA/")
    return rows.assign(image_path=paths)


def _values(entries: list[Any], name: str) -> list[Any]:
    return [entry.get(name) if isinstance(entry, dict) else None for entry in entries]


def _download(hub_id: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, ARCHIVE, repo_type="dataset"))
    except Exception as error:  # the hub's client raises whatever the network, the file system or the hub raised
        raise DataError(
            f"there is no folder or archive {hub_id} here, and {ARCHIVE} of that hub id cannot be downloaded "
            f"({str(error)[:200]}); download it where there is a connection, and give its path."
        ) from error
