"""Ratings and choices from whatever source the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.images import open_files
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.flickr_aes import read_flickr_aes
from pamela_rl.data.sources.folder import read_folder
from pamela_rl.data.sources.hf_datasets import read_hf_dataset
from pamela_rl.data.sources.lapis import read_lapis
from pamela_rl.data.sources.pamela import read_pamela
from pamela_rl.data.sources.para import read_para
from pamela_rl.data.sources.rated_images import RatedImages
from pamela_rl.errors import ConfigError

PUBLISHED: dict[str, Callable[..., RatedImages]] = {
    "pamela": read_pamela, "lapis": read_lapis, "para": read_para, "flickr_aes": read_flickr_aes,
}  # fmt: skip


def read_source(source: SourceSettings) -> tuple[RatedImages, ChoiceTable | None]:
    """Read ratings with their images, and choices between two images where there are any.

    Raises:
        ConfigError: The settings name the world, whose ratings are in no file.
        DataError: A file cannot be read, or a row is wrong; names file, row, value and remedy.
    """
    if source.kind == "world":
        raise ConfigError(
            "source.kind is 'world', whose users rate when they are asked; use world.ratings.make_ratings."
        )
    path = str(source.path)
    choices = ChoiceTable.screened(source.choices, source.on_bad_row)[0] if source.choices else None
    if source.kind in PUBLISHED:
        return PUBLISHED[source.kind](path, on_bad_row=source.on_bad_row), choices
    scale = RatingScale(*source.scale)
    if source.kind == "choices":
        choices = ChoiceTable.screened(path, source.on_bad_row)[0]
        no_ratings = choices.rows[["user_id"]].assign(image="", rating=scale.low)[:0]
        images = open_files(source.images or Path(path).parent)
        return RatedImages(RatingTable(no_ratings, scale, source=path), images), choices
    own: dict[str, Any] = {"columns": source.columns or None, "scale": scale, "on_bad_row": source.on_bad_row}
    if source.kind == "huggingface":
        return read_hf_dataset(path, **own), choices
    return read_folder(path, source.images, raters=source.raters, **own), choices
