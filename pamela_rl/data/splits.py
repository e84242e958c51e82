"""Honest splits: no picture on two sides, however often it was rated, copied or paired; and finding those that are not."""

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
PICTURES = ("image", "image_a", "image_b")  # columns that name one


@dataclass(frozen=True)
class SplitShares:
    """How much is held out. What is left is for training.

    Attributes:
        val_pictures: Share of the pictures to choose settings by.
        test_pictures: Share of the pictures to report.
        unseen_people: Share of the people that no training rating is from; 0 leaves out the unseen splits.
    """

    val_pictures: float = 0.1
    test_pictures: float = 0.2
    unseen_people: float = 0.2

    def __post_init__(self) -> None:
        if min(self.val_pictures, self.test_pictures) < 0 or self.val_pictures + self.test_pictures >= 1:
            raise ConfigError(
                f"val_pictures is {self.val_pictures} and test_pictures {self.test_pictures}; "
                "both are at least 0 and leave something to train on, e.g. 0.1 and 0.2."
            )
        if not 0 <= self.unseen_people < 1:
            raise ConfigError(f"unseen_people is {self.unseen_people}; use a share from 0 to less than 1, e.g. 0.2.")


@dataclass(frozen=True)
class Sides:
    """Which side every picture is on, and who is unseen.

    Attributes:
        pictures: ``train``, ``val`` or ``test`` by picture.
        unseen: People that nothing may be learned from before they are tested.
    """

    pictures: Mapping[str, str]
    unseen: frozenset[str]

    def split(self, table: Table) -> Table:
        """Return the table with a column ``split``.

        Two kinds of rows belong in no split; they are left out, and a warning counts them: what unseen people said of
        training pictures, and pairs whose pictures are on different sides.

        Raises:
            DataError: A picture has no side.
        """
        columns = [column for column in PICTURES if column in table.rows.columns]
        sides = table.rows[columns].apply(lambda column: column.map(self.pictures))
        if sides.isna().to_numpy().any():
            lost = table.rows[columns].to_numpy()[sides.isna().to_numpy()]
            raise DataError(f"{len(set(lost))} pictures of {table.source} have no side, e.g. {lost[0]!r}; draw again.")
        side = sides.iloc[:, 0]
        straddles = (sides.ne(side, axis=0)).any(axis=1)
        unseen = table.rows["user_id"].isin(self.unseen)
        homeless = ~straddles & unseen & (side == "train")
        _report(table.source, int(straddles.sum()), int(homeless.sum()))
        name = side.where(side == "train", side + np.where(unseen, "_unseen", "_seen"))
        return replace(table, rows=table.rows.assign(split=name)[~straddles & ~homeless])


def split_people_and_pictures(
    table: Table, seed: int = 0, shares: SplitShares = SplitShares(), groups: str | Mapping[str, str] | None = None
) -> Table:
    """Return the table in the paper's five splits: train, and validation and test for seen and for unseen people.

    Every picture is on one side with all its ratings, and so are all pictures of a group. ``val_unseen`` and
    ``test_unseen`` are the same people and different pictures, so that one can be shown to introduce them and the
    other to test on. Rows that belong in no split are left out and counted (see ``Sides.split``).

    Args:
        table: Ratings or choices. To split several tables alike: ``draw_sides`` once, ``Sides.split`` each.
        seed: Of the draw.
        shares: How much is held out.
        groups: Pictures that belong together: a column of a table of ratings, or a group by picture, as
            ``near_duplicates`` gives; pictures it does not name are alone.

    Raises:
        DataError: There are too few pictures or people for one of the shares, or no such column.
    """
    return draw_sides([table], seed, shares, groups_of(table, groups)).split(table)


def draw_sides(
    tables: Sequence[RatingTable | ChoiceTable],
    seed: int = 0,
    shares: SplitShares = SplitShares(),
    groups: Mapping[str, str] | None = None,
) -> Sides:
    """Draw the side of every picture and who is unseen, the same for all tables; the order of rows does not matter.

    Args:
        tables: Ratings and choices that are to be used together.
        seed: Of the draw.
        shares: How much is held out.
        groups: A group by picture; the others are alone.

    Raises:
        DataError: There are too few pictures or people for one of the shares.
    """
    pictures = {name for table in tables for column in _picture_columns(table) for name in table.rows[column]}
    grouped = {str(name): (groups or {}).get(name, str(name)) for name in sorted(pictures)}
    parts = {"test": shares.test_pictures, "val": shares.val_pictures}
    sizes = pd.Series(list(grouped.values())).value_counts().sort_index()
    side = _cut(sizes, parts, np.random.default_rng((seed, 0)), "pictures", "groups")
    people = sorted({user for table in tables for user in table.user_ids})
    alone = pd.Series(1, index=people)
    told = _cut(alone, {"unseen": shares.unseen_people}, np.random.default_rng((seed, 1)), "people", "persons")
    unseen = frozenset(user for user in people if told[user] == "unseen")
    return Sides({name: side[group] for name, group in grouped.items()}, unseen)


def groups_of(table: RatingTable | ChoiceTable, groups: str | Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the group of each picture, from a column or a mapping.

    Raises:
        DataError: There is no such column, or it puts one picture in two groups.
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


def _picture_columns(table: RatingTable | ChoiceTable) -> Iterable[str]:
    return (column for column in PICTURES if column in table.rows.columns)


def _cut(
    sizes: pd.Series[Any], parts: Mapping[str, float], numbers: np.random.Generator, what: str, units: str
) -> dict[str, str]:
    """Give every unit a part, in random order, until each part has its share of the sum of sizes; the rest train."""
    order = sizes.iloc[numbers.permutation(len(sizes))]
    middle = (order.cumsum() - order / 2) / order.sum()  # of each unit, on a line from 0 to 1
    ends = np.cumsum([0.0, *parts.values()])
    names = [*parts, "train"]
    drawn = {str(unit): names[int(np.searchsorted(ends[1:], at, side="right"))] for unit, at in middle.items()}
    for name in [*(part for part, share in parts.items() if share), "train"]:
        if name not in drawn.values():
            raise DataError(
                f"{int(sizes.sum())} {what} in {len(sizes)} {units} leave none for {name!r} "
                f"with shares of {dict(parts)}; change the shares, or split by hand."
            )
    return drawn


def _report(source: str, straddling: int, homeless: int) -> None:
    if straddling:
        logger.warning("%s: %d pairs left out: their pictures are on different sides.", source, straddling)
    if homeless:
        logger.warning("%s: %d rows left out: unseen people on training pictures.", source, homeless)
