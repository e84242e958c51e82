"""Ratings from any source, split and encoded: ready to fit models to and to measure them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from pamela_rl.agreement.ceiling import implied_ceiling, rerating_agreement
from pamela_rl.agreement.per_user import Agreement
from pamela_rl.agreement.study import Study, make_study
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.leaks import find_leaks
from pamela_rl.data.near_duplicates import near_duplicates
from pamela_rl.data.ratings import RatingTable
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_source
from pamela_rl.data.sources.rated_images import RatedImages
from pamela_rl.data.splits import IMAGE_COLUMNS, assign_splits
from pamela_rl.errors import DataError
from pamela_rl.rewards.encoders.feature_cache import encode_images, encode_texts
from pamela_rl.rewards.encoders.features import FeatureEncoder, combine
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.encoders.pixels import PixelEncoder

METADATA = ("group", "style", "type")  # of images, where the table has them


@dataclass(frozen=True)
class PreparedStudy:
    """A study, and what belongs to it.

    Attributes:
        study: Ratings, split and encoded.
        encoder: What made the features.
        ceilings: Agreement that no model can beat but by luck, where it is known.
        open_image: Opens the image of a row of features.
    """

    study: Study
    encoder: PixelEncoder | FeatureEncoder
    ceilings: list[Agreement]
    open_image: Callable[[int], Image.Image]


def prepare_study(source: SourceSettings, encoder_name: str, cache: Path, seed: int = 0) -> PreparedStudy:
    """Read, split and encode ratings, and print how many there are.

    Where users rated an image twice, the agreement of their two ratings gives the ceilings.

    Args:
        source: Where the ratings are.
        encoder_name: "world", "pixels", an open_clip model name or a folder.
        cache: Where features are kept between runs.
        seed: Of the splits, where the tables have none.

    Raises:
        DataError: A file cannot be read, a row is wrong, or the splits leak.
        ConfigError: The encoder cannot be loaded.
    """
    rated, choices = read_source(source)
    tables = [rated.table.rows, *([choices.rows] if choices else [])]
    images, prompts = images_and_prompts(tables)
    num_users, count = len({user for table in tables for user in table["user_id"]}), sum(map(len, tables))
    print(f"{count:,} answers of {num_users:,} people about {len(images):,} pictures.")
    ratings, choices = _split(rated, choices, images, seed)
    features, encoder = _encode(rated, images, prompts, encoder_name, cache)
    study = make_study(ratings, features, images, choices, METADATA, seed)
    repeated = rated.table.rows.duplicated(["user_id", "image"]).any()
    ceilings = [again := rerating_agreement(rated.table), implied_ceiling(again)] if repeated else []
    return PreparedStudy(study, encoder, ceilings, lambda row: rated.images.open(images[row]))


def images_and_prompts(tables: Sequence[pd.DataFrame]) -> tuple[list[str], list[str]]:
    """Return every image once, and the prompt it was made for, empty where none is known."""
    parts = []
    for table in tables:
        prompts = table["prompt"].fillna("").astype(str) if "prompt" in table.columns else ""
        for column in IMAGE_COLUMNS:
            if column in table.columns:
                parts.append(pd.DataFrame({"image": table[column].astype(str), "prompt": prompts}))
    first = pd.concat(parts).drop_duplicates("image")
    return first["image"].tolist(), first["prompt"].tolist()


def _split(
    rated: RatedImages, choices: ChoiceTable | None, images: list[str], seed: int
) -> tuple[RatingTable, ChoiceTable | None]:
    """Take the tables' own splits if they do not leak, or draw some; near-duplicates then stay together."""
    tables: list[RatingTable | ChoiceTable] = [rated.table] if len(rated.table.rows) else []
    tables += [choices] if choices else []
    if all("split" in table.rows.columns for table in tables):
        found = find_leaks(*tables)
        if found:
            raise DataError(f"the splits of {rated.table.source} leak. {' '.join(found)}")
        return rated.table, choices
    sides = assign_splits(tables, seed, groups=near_duplicates(images, rated.images))
    return sides.split(rated.table), sides.split(choices) if choices else None


def _encode(
    rated: RatedImages, images: list[str], prompts: list[str], name: str, cache: Path
) -> tuple[Tensor, PixelEncoder | FeatureEncoder]:
    """Return features of every image and its prompt, ``(n, d)``, and their encoder."""
    encoder = open_encoder(name, "cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(encoder, PixelEncoder):
        return encoder.encode_store(rated.images, images), encoder
    features = encode_images(encoder, rated.images, images, cache=cache)
    return combine(features, encode_texts(encoder, prompts, cache=cache)), encoder
