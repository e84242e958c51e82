"""Ratings from wherever they are, split and encoded: what the recipes of rewards start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from pamela_rl.agreement.ceiling import implied_ceiling, rate_again
from pamela_rl.agreement.per_person import Agreement
from pamela_rl.agreement.study import Study, make_study
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.images import open_files
from pamela_rl.data.leaks import leaks
from pamela_rl.data.near_duplicates import near_duplicates
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.data.sources import (
    RatedImages,
    read_flickr_aes,
    read_folder,
    read_hf_dataset,
    read_lapis,
    read_pamela,
    read_para,
)
from pamela_rl.data.splits import draw_sides
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.encoders.feature_cache import encode_pictures, encode_texts
from pamela_rl.rewards.encoders.features import FeatureEncoder, combine, encode_all
from pamela_rl.rewards.encoders.pixels import NAME as PIXELS
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.world import ENCODER, load_judge
from pamela_rl.world.learned import true_ceiling, world_study
from pamela_rl.world.raters import make_raters
from pamela_rl.world.ratings import make_ratings

METADATA = ("group", "style", "type")  # of pictures, where the table has them
PICTURES = ("image", "image_a", "image_b")


@dataclass(frozen=True)
class SourceConfig:
    """Where ratings and pictures are.

    Attributes:
        kind: "world" needs nothing else; "folder" is a table of ratings of your own, "choices" one of choices between
            two pictures; the others are published layouts.
        path: The folder, archive, table or hub id.
        images: Of a folder's pictures, where they are not beside the table.
        columns: Of a folder or a Hugging Face dataset, our names to yours, e.g. {user_id: worker}.
        raters: Of a folder: a table of what people report.
        choices: A table of user_id, image_a, image_b and choice (a, b or tie), of the same pictures; may be given
            beside the ratings.
        scale: Lowest and highest rating; a third number is the step, 0 for a slider.
        on_bad_row: "stop" at the first bad row, or "skip" all and tell which.
    """

    kind: Literal["world", "pamela", "lapis", "para", "flickr_aes", "folder", "huggingface", "choices"] = "world"
    path: str | None = None
    images: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    raters: str | None = None
    choices: str | None = None
    scale: list[float] = field(default_factory=lambda: [1.0, 5.0])
    on_bad_row: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.kind != "world" and self.path is None:
            raise ConfigError(f"source.kind is {self.kind!r} but there is no source.path; give the folder or file.")
        if len(self.scale) not in (2, 3):
            raise ConfigError(f"source.scale has {len(self.scale)} numbers; give the lowest and the highest rating.")


READERS: dict[str, Callable[..., RatedImages]] = {
    "pamela": read_pamela, "lapis": read_lapis, "para": read_para, "flickr_aes": read_flickr_aes,
}  # fmt: skip


def read(source: SourceConfig) -> tuple[RatedImages, ChoiceTable | None]:
    """Read ratings, choices, and know where their pictures are."""
    path = str(source.path)
    pairs = ChoiceTable.screened(source.choices, source.on_bad_row)[0] if source.choices else None
    if source.kind in READERS:
        return READERS[source.kind](path, on_bad_row=source.on_bad_row), pairs
    scale = RatingScale(*source.scale)
    if source.kind == "choices":
        pairs = ChoiceTable.screened(path, source.on_bad_row)[0]
        nothing = pairs.rows[["user_id"]].assign(image="", rating=scale.low)[:0]
        store = open_files(source.images or Path(path).parent)
        return RatedImages(RatingTable(nothing, scale, source=path), store), pairs
    own: dict[str, Any] = {"columns": source.columns or None, "scale": scale, "on_bad_row": source.on_bad_row}
    if source.kind == "huggingface":
        return read_hf_dataset(path, **own), pairs
    return read_folder(path, source.images, raters=source.raters, **own), pairs


def split(
    rated: RatedImages, pairs: ChoiceTable | None, images: list[str], seed: int
) -> tuple[RatingTable, ChoiceTable | None]:
    """Take the splits that are there, if they are honest, or draw some; near-duplicates then stay together."""
    tables: list[RatingTable | ChoiceTable] = [rated.table] if len(rated.table.rows) else []
    tables += [pairs] if pairs else []
    if all("split" in table.rows.columns for table in tables):
        found = leaks(*tables)
        if found:
            raise DataError(f"the splits of {rated.table.source} leak. {' '.join(found)}")
        return rated.table, pairs
    sides = draw_sides(tables, seed, groups=near_duplicates(images, rated.images))
    return sides.split(rated.table), sides.split(pairs) if pairs else None


def encode(
    rated: RatedImages, images: list[str], prompts: list[str], name: str, cache: Path
) -> tuple[Tensor, PixelEncoder | FeatureEncoder]:
    """Return features of every picture and its prompt, and what made them."""
    if name == PIXELS:
        pixels = PixelEncoder()
        return pixels.encode_store(rated.images, images), pixels
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = FeatureEncoder.load(ENCODER if name == "world" else name, device)
    seen = encode_pictures(encoder, rated.images, images, cache=cache)
    return combine(seen, encode_texts(encoder, prompts, cache=cache)), encoder


@dataclass(frozen=True)
class Prepared:
    """A study, and what belongs to it.

    Attributes:
        study: Ratings, split and encoded.
        encoder: What made the features.
        ceilings: What no model can beat but by luck, where that is known.
        open_picture: Opens the picture of a row of features.
    """

    study: Study
    encoder: PixelEncoder | FeatureEncoder
    ceilings: list[Agreement]
    open_picture: Callable[[int], Image.Image]


def prepare_own(source: SourceConfig, encoder_name: str, cache: Path, seed: int) -> Prepared:
    """Read, split and encode people's ratings; where they repeat themselves, say how well they agree with themselves."""
    rated, pairs = read(source)
    tables = [rated.table.rows, *([pairs.rows] if pairs else [])]
    images, prompts = shown_pictures(tables)
    people, count = len({user for table in tables for user in table["user_id"]}), sum(map(len, tables))
    print(f"{count:,} answers of {people:,} people about {len(images):,} pictures.")
    ratings, pairs = split(rated, pairs, images, seed)
    features, encoder = encode(rated, images, prompts, encoder_name, cache)
    study = make_study(ratings, features, images, pairs, METADATA, seed)
    twice = rated.table.rows.duplicated(["user_id", "image"]).any()
    ceilings = [again := rate_again(rated.table), implied_ceiling(again)] if twice else []
    return Prepared(study, encoder, ceilings, lambda row: rated.images.open(images[row]))


def shown_pictures(tables: Sequence[pd.DataFrame]) -> tuple[list[str], list[str]]:
    """Return every picture once, and the prompt it was made for, empty where none is known."""
    parts = []
    for table in tables:
        prompts = table["prompt"].fillna("").astype(str) if "prompt" in table.columns else ""
        for column in PICTURES:
            if column in table.columns:
                parts.append(pd.DataFrame({"image": table[column].astype(str), "prompt": prompts}))
    first = pd.concat(parts).drop_duplicates("image")
    return first["image"].tolist(), first["prompt"].tolist()


def prepare_world(seed: int) -> Prepared:
    """Let the world's people rate its pictures; how well the truth itself agrees with their ratings is known."""
    print("Two hundred simulated people rate 5,000 pictures.")
    raters, encoder = make_raters(), FeatureEncoder.load(ENCODER)
    ratings = make_ratings(raters, load_judge())
    study = world_study(ratings, raters, encode_all(encoder, ratings.images, ratings.prompts), seed)
    ceilings = [true_ceiling(ratings, raters, split) for split in ("test_seen", "test_unseen")]
    return Prepared(study, encoder, ceilings, lambda row: to_picture(ratings.images[row]))


def to_picture(image: Tensor) -> Image.Image:
    """Turn ``(3, h, w)`` in [0, 1] into a picture."""
    return Image.fromarray((255 * image.permute(1, 2, 0)).round().to(torch.uint8).numpy())
