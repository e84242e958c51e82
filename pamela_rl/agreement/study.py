"""Encoded ratings: training and held-out data of preference models, and everything for the model that is kept."""

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
from pamela_rl.data.splits import IMAGE_COLUMNS, SplitAssignment
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
        held_out: Ratings of each held-out split that is not empty; none where tables are in no splits, to be
            cross-validated.
        choices: Choices of known users between test images, or None.
        fitted_on: What models of ``data`` are fitted on.
        everything: All ratings and choices of everybody, for the model that is kept after measuring.
        fitted_on_everything: What models of ``everything`` are fitted on.
        groups: Group of each image; near-duplicates share one, ``(m,)``.
    """

    data: RatingData
    held_out: Mapping[str, UserRatings]
    choices: HeldOutChoices | None
    fitted_on: FittedOn
    everything: RatingData
    fitted_on_everything: FittedOn
    groups: NDArray[np.int64]

    @property
    def test_image_rows(self) -> Tensor:
        """Rows of the images in ``test_seen``; of all rated images if that split is empty."""
        held_out = self.held_out.get("test_seen")
        rows = self.everything.train.images if held_out is None else torch.from_numpy(held_out.image_ids)
        unique: Tensor = rows.unique()
        return unique


def make_study(
    ratings: RatingTable,
    features: Tensor,
    image_ids: Sequence[str],
    choice_table: ChoiceTable | None = None,
    metadata: Sequence[str] = (),
    seed: int = 0,
    *,
    sides: SplitAssignment | None = None,
    groups: Mapping[str, str] | None = None,
    prompts: bool = True,
    num_parts: int = 1,
) -> Study:
    """Encode tables; those with a column ``split``, or with ``sides``, have training and held-out data.

    Args:
        ratings: All ratings.
        features: One row per image, ``(m, d)``.
        image_ids: Id of each row in the tables.
        choice_table: All choices of the same users.
        metadata: Columns of ``ratings`` with metadata of the image, e.g. group, style and type.
        seed: The seed that models will be fitted with.
        sides: The side of every image, where the tables have no column ``split``; None holds nothing out.
        groups: Group of each image, for cross-validation; other images are their own.
        prompts: Whether the features contain the prompts of images.
        num_parts: Of features, as ``ImageFeatures.parts``.

    Raises:
        DataError: There is no training rating and no training choice.
    """
    rows = {image: row for row, image in enumerate(image_ids)}
    codes = metadata_codes(ratings.rows, rows, metadata)
    images = ImageFeatures(features, codes, torch.arange(len(features)), num_parts)
    group_names = [(groups or {}).get(image, image) for image in image_ids]
    whole = _Tables(ratings, choice_table, images, rows, seed, prompts)
    everything, fitted_on_everything = whole.training(ratings.rows, None if choice_table is None else choice_table.rows)
    numbers = np.unique(np.array(group_names, dtype=object).astype(str), return_inverse=True)[1]
    kept = (everything, fitted_on_everything, numbers.astype(np.int64))
    if sides is not None:
        ratings = sides.split(ratings)
        choice_table = None if choice_table is None else sides.split(choice_table)
    if "split" not in (ratings.rows if len(ratings.rows) or choice_table is None else choice_table.rows).columns:
        return Study(everything, {}, None, fitted_on_everything, *kept)
    by_split = ratings.rows.get("split", pd.Series(dtype=object))
    parts = {split: ratings.rows[by_split == split] for split in ("train", *HELD_OUT_SPLITS)}
    choice_parts = {s: choice_table.split(s).rows for s in ("train", "test_seen")} if choice_table else {}
    data, fitted_on = whole.training(parts["train"], choice_parts.get("train"), parts["val_seen"])
    for split in HELD_OUT_SPLITS:
        if not split.endswith("unseen"):
            parts[split] = parts[split][parts[split]["user_id"].isin(data.user_ids)]
    held_out = {split: _rated(parts[split], images, rows) for split in HELD_OUT_SPLITS if len(parts[split])}
    test_choices = choice_parts["test_seen"] if choice_parts else pd.DataFrame({"user_id": []})
    test_choices = test_choices[test_choices["user_id"].isin(data.user_ids)]
    held_out_choices = None if test_choices.empty else _held_out_choices(test_choices, images, rows)
    return Study(data, held_out, held_out_choices, fitted_on, *kept)


@dataclass(frozen=True)
class _Tables:
    """Ratings and choices with the features of their images."""

    ratings: RatingTable
    choices: ChoiceTable | None
    images: ImageFeatures
    rows: Mapping[str, int]
    seed: int
    prompts: bool

    def training(
        self, ratings: pd.DataFrame, choices: pd.DataFrame | None, validation: pd.DataFrame | None = None
    ) -> tuple[RatingData, FittedOn]:
        """Encode some rows for fitting; validation ratings are those of users who are among the others.

        Raises:
            DataError: There is no rating and no choice.
        """
        given = [ratings, *([] if choices is None else [choices])]
        users = tuple(sorted({user for part in given for user in part["user_id"]}))
        if not users:
            raise DataError(
                f"{self.ratings.source} has no row in the split 'train'; there is nothing to learn from."
                if "split" in self.ratings.rows.columns
                else f"{self.ratings.source} has no rating and no choice; there is nothing to learn from."
            )
        if validation is not None:
            validation = validation[validation["user_id"].isin(users)]
            given.append(validation)
        names = {image for part in given for column in IMAGE_COLUMNS if column in part for image in part[column]}
        data = RatingData(
            self.images,
            rating_tensors(ratings, users, self.rows),
            users,
            None if validation is None or validation.empty else rating_tensors(validation, users, self.rows),
            None if choices is None or choices.empty else choice_tensors(choices, users, self.rows),
            self.ratings.raters,
            self.ratings.scale,
        )
        scale, bounded = self.ratings.scale, not ratings.empty
        answers = answer_digests(given)
        return data, FittedOn(frozenset(users), frozenset(names), self.seed, scale, self.prompts, bounded, answers)


def answer_digests(tables: Sequence[pd.DataFrame]) -> dict[str, str]:
    """Hash each user's ratings and choices, whatever their order; splits do not matter, so all rows may be in one."""
    sums: dict[str, int] = {}
    for table in tables:
        columns = [name for name in ("prompt", "rating", "choice", *IMAGE_COLUMNS) if name in table]
        hashes = pd.util.hash_pandas_object(table[columns].astype(str), index=False)
        for user, values in hashes.groupby(table["user_id"]):
            sums[str(user)] = (sums.get(str(user), 0) + int(values.sum())) % 2**64
    return {user: f"{value:016x}" for user, value in sums.items()}


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
