"""Encoded ratings in five splits: training and held-out data of preference models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.agreement.measure import UserRatings, introduce_users
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.ratings import RatingTable
from pamela_rl.errors import DataError
from pamela_rl.rewards.personal import FittedOn
from pamela_rl.rewards.preference import ImageFeatures, PreferenceModel, RatingData
from pamela_rl.rewards.rating_tensors import OUTCOMES, choice_tensors, rating_tensors

HELD_OUT_SPLITS = ("val_seen", "test_seen", "val_unseen", "test_unseen")


@dataclass(frozen=True)
class HeldOutChoices:
    """Held-out choices between two pictures.

    Attributes:
        first: Features of picture a of each choice.
        second: Features of picture b.
        outcomes: 1 if a was chosen, 0 if b was, one half for a tie, ``(n,)``.
        user_ids: User of each choice, ``(n,)``.
    """

    first: ImageFeatures
    second: ImageFeatures
    outcomes: Tensor
    user_ids: NDArray[np.object_]


@dataclass(frozen=True)
class Study:
    """Training and held-out data.

    Attributes:
        data: Training ratings and choices, with ``val_seen`` as validation ratings.
        held_out: Ratings of each held-out split that is not empty.
        choices: Choices of known users between test pictures, or None.
        fitted_on: Users and pictures that models are fitted on.
    """

    data: RatingData
    held_out: Mapping[str, UserRatings]
    choices: HeldOutChoices | None
    fitted_on: FittedOn

    @property
    def test_image_rows(self) -> Tensor:
        """Rows of the pictures in ``test_seen``; of the training pictures if that split is empty."""
        held_out = self.held_out.get("test_seen")
        rows = self.data.train.images if held_out is None else torch.from_numpy(held_out.image_ids)
        unique: Tensor = rows.unique()
        return unique


def make_study(
    ratings: RatingTable,
    features: Tensor,
    image_ids: Sequence[str],
    choice_table: ChoiceTable | None = None,
    metadata: Sequence[str] = (),
    seed: int = 0,
) -> Study:
    """Encode tables with a column ``split``.

    Args:
        ratings: Ratings with the paper's five splits.
        features: One row per picture, ``(m, d)``.
        image_ids: Id of each row in the tables.
        choice_table: Choices of the same users, with the same splits.
        metadata: Columns of ``ratings`` with metadata of the picture, e.g. group, style and type.
        seed: The seed that models will be fitted with.

    Raises:
        DataError: There is no training rating and no training choice.
    """
    rows = {image: row for row, image in enumerate(image_ids)}
    codes = metadata_codes(ratings.rows, rows, metadata)
    images = ImageFeatures(features, codes, torch.arange(len(features)))
    parts = {split: ratings.rows[ratings.rows["split"] == split] for split in ("train", *HELD_OUT_SPLITS)}
    choice_parts = {s: t.rows for s in ("train", "test_seen") for t in [choice_table.split(s)]} if choice_table else {}
    training_users = pd.concat(
        [parts["train"]["user_id"], *(part["user_id"] for s, part in choice_parts.items() if s == "train")]
    )
    users = tuple(sorted(training_users.unique()))
    if not users:
        raise DataError(f"{ratings.source} has no row in the split 'train'; there is nothing to learn from.")
    val_seen = parts["val_seen"][parts["val_seen"]["user_id"].isin(users)]
    data = RatingData(
        images,
        rating_tensors(parts["train"], users, rows),
        users,
        rating_tensors(val_seen, users, rows) if len(val_seen) else None,
        choice_tensors(choice_parts["train"], users, rows) if choice_parts and len(choice_parts["train"]) else None,
        ratings.raters,
        ratings.scale,
    )
    unknown = {
        split: ~parts[split]["user_id"].isin(users) & (not split.endswith("unseen")) for split in HELD_OUT_SPLITS
    }
    parts |= {split: parts[split][~unknown[split]] for split in HELD_OUT_SPLITS}
    used = pd.concat([parts["train"], val_seen])
    fitted_on = FittedOn(frozenset(used["user_id"]), frozenset(used["image"]), seed)
    held_out = {split: _rated(parts[split], images, rows) for split in HELD_OUT_SPLITS if len(parts[split])}
    test_choices = choice_parts["test_seen"] if choice_parts else pd.DataFrame({"user_id": []})
    test_choices = test_choices[test_choices["user_id"].isin(users)]
    held_out_choices = None if test_choices.empty else _held_out_choices(test_choices, images, rows)
    return Study(data, held_out, held_out_choices, fitted_on)


def with_newcomers(study: Study, model: PreferenceModel, split: str, count: int) -> PreferenceModel:
    """Introduce the newcomers of an unseen split to a model by ``count`` ratings from the other unseen split."""
    other = {"val_unseen": "test_unseen", "test_unseen": "val_unseen"}.get(split)
    if other is None:
        return model
    users = users_in(study.held_out[split])
    if other not in study.held_out:
        return introduce_users(model, study.held_out[split], users, 0, study.data.demographics_of)
    return introduce_users(model, study.held_out[other], users, count, study.data.demographics_of)


def users_in(rated: UserRatings) -> list[str]:
    """Return the ids of the users who rated, sorted."""
    return sorted({str(user) for user in rated.user_ids})


def metadata_codes(table: pd.DataFrame, rows: Mapping[str, int], columns: Sequence[str]) -> Tensor | None:
    """Return integer codes of the metadata columns of all pictures, 0 for missing values, ``(m, columns)``."""
    present = [column for column in columns if column in table.columns]
    if not present:
        return None
    first = table.drop_duplicates("image")
    image_rows = torch.tensor([rows[image] for image in first["image"]])
    codes = torch.zeros(len(rows), len(present), dtype=torch.int64)
    for number, column in enumerate(present):
        values = pd.Categorical(first[column].astype(object)).codes.astype(np.int64) + 1
        codes[image_rows, number] = torch.from_numpy(values)
    return codes


def _rated(table: pd.DataFrame, images: ImageFeatures, rows: Mapping[str, int]) -> UserRatings:
    image_rows = np.array([rows[image] for image in table["image"]], dtype=np.int64)
    actual = torch.from_numpy(table["rating"].to_numpy(dtype=np.float64, copy=True))
    return UserRatings(
        images[torch.from_numpy(image_rows)], actual, table["user_id"].to_numpy(dtype=object), image_rows
    )


def _held_out_choices(table: pd.DataFrame, images: ImageFeatures, rows: Mapping[str, int]) -> HeldOutChoices:
    first, second = (torch.tensor([rows[image] for image in table[column]]) for column in ("image_a", "image_b"))
    outcomes = torch.tensor(table["choice"].map(OUTCOMES).to_numpy(dtype=np.float64))
    return HeldOutChoices(images[first], images[second], outcomes, table["user_id"].to_numpy(dtype=object))
