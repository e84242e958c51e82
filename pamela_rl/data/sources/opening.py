"""Ratings and choices from whatever source the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from pamela_rl.data.checks import SkippedRows, warn_of_similar_users
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.columns import is_choice_table
from pamela_rl.data.files import read_file
from pamela_rl.data.images import ImageStore, find_files, open_files
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources import (
    argilla,
    flickr_aes,
    hf_datasets,
    image_folder,
    image_ranker,
    label_studio,
    para,
    parquet_datasets,
)
from pamela_rl.data.sources.broken_images import without_broken_images
from pamela_rl.data.sources.flickr_aes import read_flickr_aes
from pamela_rl.data.sources.folder import read_folder
from pamela_rl.data.sources.lapis import read_lapis
from pamela_rl.data.sources.own_tables import open_table
from pamela_rl.data.sources.pamela import read_pamela
from pamela_rl.data.sources.para import read_para
from pamela_rl.data.sources.rated_images import RatedImages
from pamela_rl.errors import ConfigError, DataError

Source = tuple[RatedImages, ChoiceTable | None]
PUBLISHED: dict[str, Callable[..., RatedImages]] = {
    "pamela": read_pamela, "lapis": read_lapis, "para": read_para, "flickr_aes": read_flickr_aes,
}  # fmt: skip
MARKERS = {
    "pamela": "annotations/pamela_train.json", "lapis": "annotation/LAPIS_PIAA.csv", "para": para.RATINGS,
    "flickr_aes": flickr_aes.RATINGS,
}  # fmt: skip

# Exports of other tools and downloaded datasets: does a module's ``recognises(path)`` know the file or folder, then its
# ``read(path, settings)`` is asked for the ratings and choices. The first that recognises a path reads it.
Reader = tuple[Callable[[Path], bool], Callable[[Path, SourceSettings], Source]]
DATASETS: tuple[Reader, ...] = tuple(
    (module.recognises, module.read) for module in (hf_datasets, parquet_datasets, image_folder)
)
EXPORTS: tuple[Reader, ...] = tuple(
    (module.recognises, module.read) for module in (label_studio, argilla, image_ranker)
)


def read_source(source: SourceSettings) -> Source:
    """Read ratings with their images, and choices between two images where there are any.

    Every image is decoded once, so that a broken one is found now (``without_broken_images``).

    Raises:
        ConfigError: The settings name the world, whose ratings are in no file.
        DataError: A file cannot be read, or a row is wrong; names file, row, value and remedy.
    """
    if source.layout == "world":
        raise ConfigError(
            "source.kind is 'world', whose users rate when they are asked; use world.ratings.make_ratings, or give source.path."
        )
    rated, choices = _read(source, Path(str(source.path)))
    if source.choices:
        if choices is not None:
            raise ConfigError(
                f"source.path is {source.path}, which holds choices, and source.choices is {source.choices}; give one of "
                "them, or join the tables."
            )
        rows, broken = read_file(Path(source.choices), on_bad_row=source.on_bad_row, content="choices")
        columns = {ours: theirs for ours, theirs in source.columns.items() if theirs in rows.columns}
        choices = _choices(source, rows, source.choices, broken, columns, rated.images)
    users = dict.fromkeys([*rated.table.user_ids, *(choices.user_ids if choices else [])])
    warn_of_similar_users(users, str(source.path))
    return without_broken_images(rated, choices, source.on_bad_row)


def _read(source: SourceSettings, path: Path) -> Source:
    """Read what ``source.path`` leads to."""
    published = source.layout if source.layout != "folder" else _published(path)
    if published in PUBLISHED:
        return PUBLISHED[published](path, on_bad_row=source.on_bad_row), None
    scale = RatingScale(*source.scale) if source.scale else None
    own: dict[str, Any] = {"columns": source.columns, "scale": scale, "on_bad_row": source.on_bad_row}
    if source.layout in ("folder", "huggingface"):
        for recognises, read in (*DATASETS, *EXPORTS) if source.layout == "folder" else DATASETS:
            if recognises(path):
                return read(path, source)
    if source.layout == "huggingface":
        return hf_datasets.read(path, source)
    table = open_table(path, source.columns, source.on_bad_row)
    if source.layout == "choices" or is_choice_table(table.rows, source.columns):
        images = open_files(source.images) if source.images else table.files
        choices = _choices(source, table.rows, table.source, table.skipped, source.columns, images)
        none = pd.DataFrame({"user_id": [], "image": [], "rating": []}, dtype=str)
        return RatedImages(RatingTable(none, scale or RatingScale(), source=table.source), images), choices
    return read_folder(table, source.images, user=source.user, raters=source.raters, **own), None


def _published(path: Path) -> str | None:
    """Return the published layout that a folder or zip has, by its file of ratings, and print it."""
    for kind, marker in MARKERS.items():
        try:
            find_files(path, marker)
        except DataError:
            continue
        print(f"{path}: it holds {marker} and is read as --source.kind {kind}.")
        return kind
    return None


def _choices(
    source: SourceSettings,
    rows: pd.DataFrame,
    name: str,
    broken: list[SkippedRows],
    columns: dict[str, str],
    images: ImageStore,
) -> ChoiceTable:
    return ChoiceTable.from_rows(
        rows, name, broken, source.on_bad_row, columns=columns, user=source.user, images=images
    )[0]
