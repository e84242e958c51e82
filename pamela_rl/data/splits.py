"""Splits without leakage: a picture, its duplicates and all its ratings are on one side."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.ratings import RatingTable
from pamela_rl.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Table = TypeVar("Table", RatingTable, ChoiceTable)
IMAGE_COLUMNS = ("image", "image_a", "image_b")  # columns with image ids


@dataclass(frozen=True)
class SplitFractions:
    """Fractions of pictures and users to hold out. The rest is for training.

    Attributes:
        val_images: Fraction of the pictures for validation.
        test_images: Fraction of the pictures for testing.
        unseen_users: Fraction of the users without training ratings; 0 makes no unseen splits.
    """

    val_images: float = 0.1
    test_images: float = 0.2
    unseen_users: float = 0.2

    def __post_init__(self) -> None:
        if min(self.val_images, self.test_images) < 0 or self.val_images + self.test_images >= 1:
            raise ConfigError(
                f"val_images is {self.val_images} and test_images {self.test_images}; "
                "both must be at least 0 and together less than 1, e.g. 0.1 and 0.2."
            )
        if not 0 <= self.unseen_users < 1:
            raise ConfigError(f"unseen_users is {self.unseen_users}; use a fraction from 0 to less than 1, e.g. 0.2.")


@dataclass(frozen=True)
class SplitAssignment:
    """The side of every picture, and the unseen users.

    Attributes:
        images: ``train``, ``val`` or ``test`` by picture.
        unseen_users: Users whose ratings are not used for training.
    """

    images: Mapping[str, str]
    unseen_users: frozenset[str]

    def split(self, table: Table) -> Table:
        """Return the table with a column ``split``.

        Two kinds of rows belong to no split and are dropped with a warning: ratings of training pictures by unseen
        users, and pairs whose pictures are on different sides.

        Raises:
            DataError: A picture has no side.
        """
        columns = [column for column in IMAGE_COLUMNS if column in table.rows.columns]
        sides = table.rows[columns].apply(lambda column: column.map(self.images))
        if sides.isna().to_numpy().any():
            unassigned = table.rows[columns].to_numpy()[sides.isna().to_numpy()]
            raise DataError(
                f"{len(set(unassigned))} pictures of {table.source} have no side, e.g. {unassigned[0]!r}; draw again."
            )
        side = sides.iloc[:, 0]
        crossing = (sides.ne(side, axis=0)).any(axis=1)
        unseen = table.rows["user_id"].isin(self.unseen_users)
        unmatched = ~crossing & unseen & (side == "train")
        _log_dropped(table.source, int(crossing.sum()), int(unmatched.sum()))
        name = side.where(side == "train", side + np.where(unseen, "_unseen", "_seen"))
        return replace(table, rows=table.rows.assign(split=name)[~crossing & ~unmatched])


def split_users_and_images(
    table: Table,
    seed: int = 0,
    fractions: SplitFractions = SplitFractions(),
    groups: str | Mapping[str, str] | None = None,
) -> Table:
    """Return the table in the paper's five splits: train, and validation and test for seen and for unseen users.

    All ratings of a picture are on one side, and so are all pictures of a group. ``val_unseen`` and ``test_unseen``
    have the same users and different pictures: one introduces the users to a model, the other tests it. Rows that
    belong to no split are dropped with a warning (see ``SplitAssignment.split``).

    Args:
        table: Ratings or choices. To split several tables alike: ``assign_splits`` once, ``SplitAssignment.split`` each.
        seed: Of the draw.
        fractions: How much is held out.
        groups: Pictures to keep together: a column of a table of ratings, or the group of each picture, as
            ``near_duplicates`` returns it; other pictures are their own group.

    Raises:
        DataError: There are too few pictures or users for one of the fractions, or no such column.
    """
    return assign_splits([table], seed, fractions, groups_of(table, groups)).split(table)


def assign_splits(
    tables: Sequence[RatingTable | ChoiceTable],
    seed: int = 0,
    fractions: SplitFractions = SplitFractions(),
    groups: Mapping[str, str] | None = None,
) -> SplitAssignment:
    """Draw the side of every picture and the unseen users, for all tables alike. The order of rows does not matter.

    Args:
        tables: Ratings and choices that are used together.
        seed: Of the draw.
        fractions: How much is held out.
        groups: Group of each picture; other pictures are their own group.

    Raises:
        DataError: There are too few pictures or users for one of the fractions.
    """
    images = {name for table in tables for column in _image_columns(table) for name in table.rows[column]}
    grouped = {str(name): (groups or {}).get(name, str(name)) for name in sorted(images)}
    parts = {"test": fractions.test_images, "val": fractions.val_images}
    sizes = pd.Series(list(grouped.values())).value_counts().sort_index()
    side = _draw_parts(sizes, parts, np.random.default_rng((seed, 0)), "groups of images")
    users = sorted({user for table in tables for user in table.user_ids})
    sizes_of_users = pd.Series(1, index=users)
    side_of_user = _draw_parts(
        sizes_of_users, {"unseen": fractions.unseen_users}, np.random.default_rng((seed, 1)), "people"
    )
    unseen_users = frozenset(user for user in users if side_of_user[user] == "unseen")
    return SplitAssignment({name: side[group] for name, group in grouped.items()}, unseen_users)


def groups_of(table: RatingTable | ChoiceTable, groups: str | Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the group of each picture, from a column or a mapping.

    Raises:
        DataError: There is no such column, or a picture has two groups in it.
    """
    if not isinstance(groups, str):
        return groups or {}
    if groups not in table.rows.columns or "image" not in table.rows.columns:
        raise DataError(f"{table.source} has no column {groups!r} of groups beside 'image'; give a mapping by picture.")
    named = table.rows[["image", groups]].dropna().drop_duplicates()
    twice = named["image"][named["image"].duplicated()]
    if len(twice):
        raise DataError(f"{table.source} puts {twice.iloc[0]!r} in two groups by {groups!r}; give each picture one.")
    return dict(zip(named["image"], named[groups].astype(str)))


def _image_columns(table: RatingTable | ChoiceTable) -> Iterable[str]:
    return (column for column in IMAGE_COLUMNS if column in table.rows.columns)


def _draw_parts(
    sizes: pd.Series[Any], parts: Mapping[str, float], rng: np.random.Generator, units: str
) -> dict[str, str]:
    """Assign units in random order to the parts until each has its fraction of the total size; the rest is "train"."""
    order = sizes.iloc[rng.permutation(len(sizes))]
    middle = (order.cumsum() - order / 2) / order.sum()  # of each unit, in the cumulative size from 0 to 1
    ends = np.cumsum([0.0, *parts.values()])
    names = [*parts, "train"]
    drawn = {str(unit): names[int(np.searchsorted(ends[1:], at, side="right"))] for unit, at in middle.items()}
    for name in [*(part for part, fraction in parts.items() if fraction), "train"]:
        if name not in drawn.values():
            raise DataError(
                f"there are {len(sizes)} {units}, too few to hold some out for {name!r} with fractions of {dict(parts)}; "
                "give more, other fractions, or a column 'split'."
            )
    return drawn


def _log_dropped(source: str, crossing: int, unmatched: int) -> None:
    if crossing:
        logger.warning("%s: %d pairs left out: their images are on different sides.", source, crossing)
    if unmatched:
        logger.warning("%s: %d rows left out: unseen people on training images.", source, unmatched)
