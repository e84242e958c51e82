"""What a split lets slip from one side to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import pandas as pd

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.ratings import RatingTable, require

SIDES = {"train": "train", "val_seen": "val", "val_unseen": "val", "test_seen": "test", "test_unseen": "test"}


def leaks(*tables: RatingTable | ChoiceTable, groups: Mapping[str, str] | None = None) -> list[str]:
    """Say what stands on two sides, a sentence each; nothing of an honest split.

    The sides are training, validation and test. Looked for are pictures (also as a picture of a pair), ratings that
    repeat what the same person said on another side, near-duplicates or other groups, pairs, and people who are both
    seen and unseen.

    Args:
        tables: Ratings and choices that are used together, with a column ``split``.
        groups: Pictures that belong together, a group by picture, as ``near_duplicates`` gives.

    Raises:
        DataError: A table has no column ``split``.
    """
    for table in tables:
        require(table.rows, ("split",), table.source)
    shown = pd.concat([_shown(table) for table in tables], ignore_index=True)
    shown["group"] = shown["image"].map(lambda image: (groups or {}).get(image, image))
    found = [*_on_two_sides(shown, "image", "picture", "every picture belongs on one side")]
    # pictures that stand on two sides themselves are named already
    apart = shown[shown.groupby("image")["side"].transform("nunique") == 1]
    found += _on_two_sides(apart, "group", "group of near-duplicates", "keep a group on one side")
    shown["said"] = "user " + shown["user_id"] + " of " + shown["image"]
    found += _on_two_sides(shown, "said", "repeated opinion", "keep a person's repeats on one side")
    pairs = [_pairs(table) for table in tables if isinstance(table, ChoiceTable)]
    if pairs:
        found += _on_two_sides(pd.concat(pairs), "pair", "pair", "keep a pair on one side")
    return [*found, *_seen_and_unseen(shown)]


def _shown(table: RatingTable | ChoiceTable) -> pd.DataFrame:
    """Return who saw which picture on which side: of a choice, two rows."""
    rows = table.rows.assign(side=table.rows["split"].map(SIDES))
    columns = ["image"] if isinstance(table, RatingTable) else ["image_a", "image_b"]
    kept = ["user_id", "split", "side"]
    return pd.concat([rows[[column, *kept]].rename(columns={column: "image"}) for column in columns])


def _pairs(table: ChoiceTable) -> pd.DataFrame:
    names = [" and ".join(sorted(pair)) for pair in zip(table.rows["image_a"], table.rows["image_b"])]
    return pd.DataFrame({"pair": names, "side": table.rows["split"].map(SIDES).to_numpy()})


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
