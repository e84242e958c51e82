"""Conversion of tables of ratings and choices to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.preference import ChoiceTensors, RatingTensors

OUTCOMES = {"a": 1.0, "b": 0.0, "tie": 0.5}


def rating_tensors(table: pd.DataFrame, user_ids: Sequence[str], image_rows: Mapping[str, int]) -> RatingTensors:
    """Convert the rows of a rating table to tensors.

    Args:
        table: ``user_id``, ``image``, ``rating``; every user must be among ``user_ids``.
        user_ids: The order of users.
        image_rows: Row of each image in the features.

    Raises:
        UnknownUserError: A rating is by a user not in ``user_ids``.
        DataError: A rated image has no row in the features.
    """
    users = _users(table, user_ids)
    images = _rows(table, "image", image_rows)
    return RatingTensors(users, images, torch.tensor(table["rating"].to_numpy(dtype="float64")))


def choice_tensors(table: pd.DataFrame, user_ids: Sequence[str], image_rows: Mapping[str, int]) -> ChoiceTensors:
    """Convert the rows of a table of choices to tensors.

    Args:
        table: ``user_id``, ``image_a``, ``image_b``, ``choice``.
        user_ids: The order of users.
        image_rows: Row of each image in the features.

    Raises:
        UnknownUserError: A choice is by a user not in ``user_ids``.
        DataError: An image has no row in the features.
    """
    first, second = (_rows(table, column, image_rows) for column in ("image_a", "image_b"))
    outcomes = torch.tensor(table["choice"].map(OUTCOMES).to_numpy(dtype="float64"))
    return ChoiceTensors(_users(table, user_ids), first, second, outcomes)


def _users(table: pd.DataFrame, user_ids: Sequence[str]) -> Tensor:
    order = {user: row for row, user in enumerate(user_ids)}
    unknown = sorted(set(table["user_id"]) - set(order))
    if unknown:
        raise UnknownUserError(
            f"{len(unknown)} people who rated are not among the {len(user_ids)} to fit, e.g. {unknown[0]!r}; "
            "leave their ratings out (fit_newcomer takes them later) or add them."
        )
    return torch.tensor([order[user] for user in table["user_id"]], dtype=torch.int64)


def _rows(table: pd.DataFrame, column: str, image_rows: Mapping[str, int]) -> Tensor:
    missing = sorted(set(table[column]) - set(image_rows))
    if missing:
        raise DataError(f"{len(missing)} rated images have no features, e.g. {missing[0]!r}; encode them first.")
    return torch.tensor([image_rows[image] for image in table[column]], dtype=torch.int64)


def hold_out_images(ratings: RatingTensors, seed: int, share: int = 10) -> tuple[RatingTensors, RatingTensors]:
    """Hold out one picture in ``share`` with all its ratings, and return the training and the held-out ratings."""
    images = ratings.images.unique()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    held_out = torch.isin(ratings.images, images[order[: -(-len(images) // share)]])
    return ratings[~held_out], ratings[held_out]
