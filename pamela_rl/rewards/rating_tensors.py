"""Tables of ratings and choices as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.preference import Choices, Observations

OUTCOMES = {"a": 1.0, "b": 0.0, "tie": 0.5}


def observations(table: pd.DataFrame, user_ids: Sequence[str], image_rows: Mapping[str, int]) -> Observations:
    """Turn rows of a rating table into numbers.

    Args:
        table: ``user_id``, ``image``, ``rating``; every user must be among ``user_ids``.
        user_ids: The order of users.
        image_rows: Row of each image in the features.

    Raises:
        UnknownUserError: A rating is of somebody not among ``user_ids``.
        DataError: A rated image has no row in the features.
    """
    users = _users(table, user_ids)
    images = _rows(table, "image", image_rows)
    return Observations(users, images, torch.tensor(table["rating"].to_numpy(dtype="float64")))


def choices(table: pd.DataFrame, user_ids: Sequence[str], image_rows: Mapping[str, int]) -> Choices:
    """Turn rows of a table of choices into numbers.

    Args:
        table: ``user_id``, ``image_a``, ``image_b``, ``choice``.
        user_ids: The order of users.
        image_rows: Row of each image in the features.

    Raises:
        UnknownUserError: A choice is of somebody not among ``user_ids``.
        DataError: A picture has no row in the features.
    """
    first, second = (_rows(table, column, image_rows) for column in ("image_a", "image_b"))
    outcomes = torch.tensor(table["choice"].map(OUTCOMES).to_numpy(dtype="float64"))
    return Choices(_users(table, user_ids), first, second, outcomes)


def _users(table: pd.DataFrame, user_ids: Sequence[str]) -> Tensor:
    order = {user: row for row, user in enumerate(user_ids)}
    strangers = sorted(set(table["user_id"]) - set(order))
    if strangers:
        raise UnknownUserError(
            f"{len(strangers)} people who rated are not among the {len(user_ids)} to fit, e.g. {strangers[0]!r}; "
            "leave their ratings out (fit_newcomer takes them later) or add them."
        )
    return torch.tensor([order[user] for user in table["user_id"]], dtype=torch.int64)


def _rows(table: pd.DataFrame, column: str, image_rows: Mapping[str, int]) -> Tensor:
    unseen = sorted(set(table[column]) - set(image_rows))
    if unseen:
        raise DataError(f"{len(unseen)} rated images have no features, e.g. {unseen[0]!r}; encode them first.")
    return torch.tensor([image_rows[image] for image in table[column]], dtype=torch.int64)


def hold_out_pictures(ratings: Observations, seed: int, share: int = 10) -> tuple[Observations, Observations]:
    """Set the ratings of one picture in ``share`` apart, with every rating of each, and return both parts."""
    pictures = ratings.images.unique()
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    apart = torch.isin(ratings.images, pictures[order[: -(-len(pictures) // share)]])
    return ratings[~apart], ratings[apart]
