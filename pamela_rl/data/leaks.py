"""Detection of leakage between the training, validation and test sides of a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import pandas as pd

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.ratings import RatingTable, require_columns

SIDE_OF_SPLIT = {"train": "train", "val_seen": "val", "val_unseen": "val", "test_seen": "test", "test_unseen": "test"}


def find_leaks(*tables: RatingTable | ChoiceTable, groups: Mapping[str, str] | None = None) -> list[str]:
    """List leaks, one sentence each; the list is empty for a clean split.

    The sides are training, validation and test. These leaks are found: an image on two sides (also as part of a
    pair), a user's repeated rating of an image on another side, a group of near-duplicates on two sides, a pair on two
    sides, and users who are both seen and unseen.

    Args:
        tables: Ratings and choices that are used together, with a column ``split``.
        groups: Group of each image, as ``near_duplicates`` returns it.

    Raises:
        DataError: A table has no column ``split``.
    """
    for table in tables:
        require_columns(table.rows, ("split",), table.source)
    exposures = pd.concat([_exposures(table) for table in tables], ignore_index=True)
    exposures["group"] = exposures["image"].map(lambda image: (groups or {}).get(image, image))
    found = [*_on_two_sides(exposures, "image", "image", "every image belongs on one side")]
    # images on two sides are reported already
    on_one_side = exposures[exposures.groupby("image")["side"].transform("nunique") == 1]
    found += _on_two_sides(on_one_side, "group", "group of near-duplicates", "keep a group on one side")
    exposures["repeat"] = "user " + exposures["user_id"] + " of " + exposures["image"]
    found += _on_two_sides(exposures, "repeat", "repeated opinion", "keep a person's repeats on one side")
    pairs = [_pairs(table) for table in tables if isinstance(table, ChoiceTable)]
    if pairs:
        found += _on_two_sides(pd.concat(pairs), "pair", "pair", "keep a pair on one side")
    return [*found, *_seen_and_unseen(exposures)]


def _exposures(table: RatingTable | ChoiceTable) -> pd.DataFrame:
    """Return user, image and side of every rating; a choice gives two rows."""
    rows = table.rows.assign(side=table.rows["split"].map(SIDE_OF_SPLIT))
    columns = ["image"] if isinstance(table, RatingTable) else ["image_a", "image_b"]
    kept = ["user_id", "split", "side"]
    return pd.concat([rows[[column, *kept]].rename(columns={column: "image"}) for column in columns])


def _pairs(table: ChoiceTable) -> pd.DataFrame:
    names = [" and ".join(sorted(pair)) for pair in zip(table.rows["image_a"], table.rows["image_b"])]
    return pd.DataFrame({"pair": names, "side": table.rows["split"].map(SIDE_OF_SPLIT).to_numpy()})


def _on_two_sides(rows: pd.DataFrame, key: str, what: str, remedy: str) -> Iterator[str]:
    members = {str(side): set(part[key]) for side, part in rows.groupby("side")}
    for one, other in combinations(("train", "val", "test"), 2):
        both = sorted(members.get(one, set()) & members.get(other, set()))
        if both:
            yield _sentence(both, what, f"in {one} and in {other}", remedy)


def _seen_and_unseen(rows: pd.DataFrame) -> Iterator[str]:
    unseen = rows["split"].str.endswith("_unseen")
    both = sorted(set(rows["user_id"][unseen]) & set(rows["user_id"][~unseen]))
    if both:
        yield _sentence(
            both, "user", "among the seen and among the unseen", "keep each person's ratings to one of them"
        )


def _sentence(both: list[str], what: str, where: str, remedy: str) -> str:
    count = f"1 {what} stands" if len(both) == 1 else f"{len(both)} {_plural(what)} stand"
    return f"{count} {where} ({', '.join(map(repr, both[:3]))}{', …' if len(both) > 3 else ''}); {remedy}."


def _plural(what: str) -> str:
    head, *rest = what.split(" of ")
    return " of ".join([head + "s", *rest])
