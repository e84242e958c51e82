"""Choices as tables write them, in our columns and words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pamela_rl.data.checks import as_text, blank, user_text
from pamela_rl.data.columns import choice_columns, plain, select_columns
from pamela_rl.data.files import with_numbers
from pamela_rl.errors import DataError

TEXT = ("user_id", "image_a", "image_b", "choice", "prompt", "split")
FIRST = frozenset(["a", "left", "first", "image_a", "image_left", "left_image", "option_a", "image_1st"])
SECOND = frozenset(["b", "right", "second", "image_b", "image_right", "right_image", "option_b", "image_2nd"])
TIE = frozenset(["tie", "tied", "draw", "equal", "same", "both", "neither", "=", "undecided", "no_preference"])


def parse_choices(rows: pd.DataFrame, source: str, told: Mapping[str, str], user: str | None) -> pd.DataFrame:
    """Return a table of choices with our columns, and "a", "b" or "tie" as choices.

    A choice may be written as A or B, left or right, first or second, the name of the column of the chosen image, the
    name of the chosen image itself, 1 or 2, or 0 or 1 where the columns are numbered so ("image_0", "image_1"). Ties are
    written as tie, draw, equal, same, both or neither. What is none of these stays as it is, and is found by the checks.
    Two columns "winner" and "loser", or "chosen" and "rejected", need no column of choices. Rows without a choice were
    not answered; they are left out, and their number is printed.

    Args:
        rows: As in the file.
        source: The file, for messages.
        told: Our column names to those of the file.
        user: Who chose, if the table has no column of users; None is "me".

    Raises:
        DataError: A column is missing or ambiguous, it is not clear which image a number means, or no row is answered.
    """
    columns = choice_columns(rows, told, source)
    pair = columns.theirs["image_a"], columns.theirs["image_b"]
    mine = select_columns(rows, columns, told, user, source)
    mine = mine.assign(**{name: as_text(mine[name]) for name in ("image_a", "image_b")})
    if columns.winner_first:
        mine = mine.assign(choice="a")
    else:
        answered = ~blank(mine["choice"])
        if not answered.any() and len(mine):
            raise DataError(
                f"{source} holds no choice yet: all {len(mine)} of its rows have an empty one; fill in a or b."
            )
        if not answered.all():
            print(f"{source}: {int((~answered).sum()):,} of {len(mine):,} rows have no choice and are left out.")
            mine = mine[answered]
        mine = mine.assign(choice=_choices(mine, pair, source))
    return with_numbers(mine.assign(user_id=user_text(mine["user_id"])), TEXT)


def _choices(rows: pd.DataFrame, pair: tuple[str, str], source: str) -> pd.Series[Any]:
    """Return "a", "b" or "tie" for each row; what is none of these stays as it is."""
    written = as_text(rows["choice"]).str.strip()
    numbered = _numbers(written, pair, source)
    words = {word: _side(word, pair, numbered) for word in written.unique()}
    choices = written.map(words)
    by_name = [(choices.isna() & (written == rows[column].str.strip())).to_numpy() for column in ("image_a", "image_b")]
    return pd.Series(np.select(by_name, ["a", "b"], choices.fillna(written)), index=rows.index, dtype="str")


def _side(word: str, pair: tuple[str, str], numbered: Mapping[str, str]) -> str | None:
    name = plain(word) or word
    if name in FIRST or name == plain(pair[0]):
        return "a"
    if name in SECOND or name == plain(pair[1]):
        return "b"
    return "tie" if name in TIE else numbered.get(word.removesuffix(".0"))


def _numbers(written: pd.Series[Any], pair: tuple[str, str], source: str) -> dict[str, str]:
    """Return the side that each number means."""
    ends = tuple(re.sub(r".*?(\d*)$", r"\1", plain(name)) for name in pair)
    if ends in (("0", "1"), ("1", "2")):
        return dict(zip(ends, "ab"))
    numbers = {word.removesuffix(".0") for word in written.unique()} & {"0", "1", "2"}
    if numbers == {"0", "1"} or numbers == {"0"}:
        raise DataError(
            f"{source} writes choices as 0 and 1, and its columns {pair[0]!r} and {pair[1]!r} do not say which image is "
            "meant; write a or b, or the name of the chosen image."
        )
    return {"1": "a", "2": "b"} if "2" in numbers else {}
