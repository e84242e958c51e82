"""Which column of a table holds what: as told, or by its usual name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pamela_rl.errors import DataError

# Our name of a column, then usual names of it: the first group of names of which a table has any decides.
USUAL: dict[str, tuple[str, ...]] = {
    "image": (
        "image image_path image_file image_name image_filename file filename file_name file_path filepath path picture "
        "picture_path photo photo_path img img_path img_name images pictures",
        "image_id picture_id photo_id img_id image_url img_url url uri name",
    ),
    "rating": (
        "ratings score scores stars star star_rating user_rating image_rating rating_value rate rated grade mark points",
        "label labels like liked likes favourite favorite vote thumbs opinion value",
    ),
    "user_id": (
        "user userid user_name username rater rater_id annotator annotator_id worker worker_id participant "
        "participant_id person person_id subject subject_id rated_by",
    ),
    "prompt": ("prompts prompt_text text_prompt", "caption captions text description"),
    "split": (),
    "choice": (
        "choices winner winning_image preferred preference chosen_image selected best better",
        "label answer vote result",
    ),
}
PAIRS = (
    ("image_a", "image_b"), ("image_left", "image_right"), ("left_image", "right_image"), ("left", "right"),
    ("image_0", "image_1"), ("image_1", "image_2"), ("image0", "image1"), ("image1", "image2"), ("img_a", "img_b"),
    ("img1", "img2"), ("img_1", "img_2"), ("file_a", "file_b"), ("file1", "file2"), ("picture_a", "picture_b"),
    ("option_a", "option_b"), ("image_path_a", "image_path_b"), ("a", "b"),
)  # fmt: skip
# one column names the winner of a row, the other the loser, so that no further column says who won
WINNERS = (("winner", "loser"), ("chosen", "rejected"), ("preferred", "rejected"), ("image_win", "image_lose"))
RATINGS = ("image", "rating", "user_id", "prompt", "split")
CHOICES = ("choice", "user_id", "prompt", "split")


@dataclass(frozen=True)
class Columns:
    """Our names of columns to those of a table.

    Attributes:
        theirs: By our name; columns that the table lacks are left out.
        guessed: Those of ``theirs`` that were found by a usual name other than ours.
        winner_first: The columns of a pair are its winner and its loser.
    """

    theirs: dict[str, str]
    guessed: tuple[str, ...] = ()
    winner_first: bool = False


def plain(name: object) -> str:
    """Return a column's name for comparison: "Image File (png)" and "image-file" are both "image_file"."""
    text = unicodedata.normalize("NFKC", re.sub(r"\(.*?\)|\[.*?\]", "", str(name)))
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z])(?=I[Dd]$)", "_", text.strip())
    return re.sub(r"[^\w]+|_+", "_", text.casefold()).strip("_")


def rating_columns(rows: pd.DataFrame, told: Mapping[str, str], source: str) -> Columns:
    """Find the columns of a table of ratings.

    Args:
        rows: The table.
        told: Our names to the table's; an empty name says that there is no such column. Further columns may be named.
        source: The file, for messages.

    Raises:
        DataError: There is no column of images or of ratings, or two could be it.
    """
    return _find(rows, told, source, RATINGS, {}, False, ("image", "rating"))


def choice_columns(rows: pd.DataFrame, told: Mapping[str, str], source: str) -> Columns:
    """Find the columns of a table of choices between two images, as ``rating_columns`` does for ratings.

    Raises:
        DataError: There are no two columns of images, no column of choices, or two could be it.
    """
    pair, winner_first = _pair(rows)
    if "choice" in told:
        winner_first = False
    given = {ours: told[ours] for ours in ("image_a", "image_b") if ours in told}
    wanted = tuple(name for name in CHOICES if name != "choice" or not winner_first)
    needed = ("image_a", "image_b", "choice")[: 2 if winner_first else 3]
    return _find(rows, told, source, wanted, {**pair, **given}, winner_first, needed)


def select_columns(
    rows: pd.DataFrame, columns: Columns, told: Mapping[str, str], user: str | None, source: str
) -> pd.DataFrame:
    """Return the table with our names of columns and a column of users, and print what was guessed.

    Another column that already has one of our names becomes "… in file".

    Args:
        rows: As in the file.
        columns: As found.
        told: As the columns were told.
        user: Who answered, if the table has no column of users; None is "me".
        source: The file, for messages.

    Raises:
        DataError: A user is named although the table has a column of users.
    """
    said = [f"{ours} is the column {columns.theirs[ours]!r}" for ours in columns.guessed]
    others = {name: f"{name} in file" for name in (*columns.theirs, *told) if name not in columns.theirs.values()}
    rows = rows.rename(columns={**others, **{theirs: ours for ours, theirs in columns.theirs.items()}})
    if "user_id" not in columns.theirs:
        rows = rows.assign(user_id=user or "me")
        said.append(f"there is no column of users, so all is by {user or 'me'!r}")
    elif user is not None:
        raise DataError(
            f"source.user is {user!r}, but {source} has a column of users, {columns.theirs['user_id']!r}; leave out "
            "source.user, or say with --source.columns.user_id '' that this is no column of users."
        )
    if said:
        print(f"{source}: {', '.join(said)}; source.columns and source.user override.")
    return rows


def is_rating_table(rows: pd.DataFrame, told: Mapping[str, str]) -> bool:
    """Return whether a table has a column that names images and one of ratings."""
    return _has(rows, told, "image") and _has(rows, told, "rating")


def is_choice_table(rows: pd.DataFrame, told: Mapping[str, str]) -> bool:
    """Return whether a table has two columns of images and one of choices, and is no table of ratings."""
    pair, winner_first = _pair(rows)
    has_pair = bool(pair) or (_has(rows, told, "image_a") and _has(rows, told, "image_b"))
    return has_pair and (winner_first or _has(rows, told, "choice")) and not is_rating_table(rows, told)


def user_column(rows: pd.DataFrame, name: str, source: str) -> str:
    """Return the column of users: the one with this name, else the one with a usual name.

    Raises:
        DataError: There is none, or several.
    """
    for names in (
        [str(column) for column in rows.columns if plain(column) == plain(name)],
        _candidates(rows, "user_id"),
    ):
        if len(names) == 1:
            return names[0]
    available = ", ".join(repr(str(column)) for column in rows.columns)
    raise DataError(f"{source} has no column {name!r}; it has {available}. Name the column of users as the ratings do.")


def _find(
    rows: pd.DataFrame,
    told: Mapping[str, str],
    source: str,
    wanted: tuple[str, ...],
    found: dict[str, str],
    winner_first: bool,
    needed: tuple[str, ...],
) -> Columns:
    theirs = {ours: _told(rows, ours, name, source) for ours, name in told.items() if name.strip()}
    guessed = []
    for ours in (*found, *wanted):
        if ours in told:
            continue
        names = [found[ours]] if ours in found else _candidates(rows, ours)
        names = [name for name in names if name not in theirs.values()]
        if len(names) > 1:
            raise DataError(
                f"{source} has {len(names)} columns that could be {ours}: {', '.join(map(repr, names))}; say which with "
                f"--source.columns.{ours} {names[0]!r}, or rename it to {ours!r}."
            )
        if names:
            theirs[ours] = names[0]
            if names[0] != ours:
                guessed.append(ours)
    for ours in needed:
        if ours not in theirs:
            available = ", ".join(repr(str(column)) for column in rows.columns)
            raise DataError(
                f"{source} has no column {ours!r}; it has {available}. Name it so in the first row, or say which it is "
                f"with --source.columns.{ours} NAME."
            )
    return Columns(theirs, tuple(guessed), winner_first)


def _told(rows: pd.DataFrame, ours: str, name: str, source: str) -> str:
    """Return the column with this name, whatever its case."""
    if name in rows.columns:
        return name
    same = [str(column) for column in rows.columns if plain(column) == plain(name)]
    if len(same) == 1:
        return same[0]
    available = ", ".join(repr(str(column)) for column in rows.columns)
    raise DataError(
        f"{source} has no column {name!r} for {ours}; it has {available}. Correct source.columns, or rename the column."
    )


def _candidates(rows: pd.DataFrame, ours: str) -> list[str]:
    """Return the columns that could be ours: the one with our name, else all with a usual name of the first group."""
    for group in (ours, *USUAL.get(ours, ())):
        names = group.split()
        if found := [str(column) for column in rows.columns if plain(column) in names]:
            return found
    return []


def _has(rows: pd.DataFrame, told: Mapping[str, str], ours: str) -> bool:
    if ours in told:
        return any(plain(column) == plain(told[ours]) for column in rows.columns)
    return bool(_candidates(rows, ours))


def _pair(rows: pd.DataFrame) -> tuple[dict[str, str], bool]:
    """Return the two columns of images, and whether the first is the winner; empty if there are none."""
    names: dict[str, str] = {}
    for column in rows.columns:
        names.setdefault(plain(column), str(column))
    for pairs, winner_first in ((PAIRS, False), (WINNERS, True)):
        for first, second in pairs:
            if first in names and second in names:
                return {"image_a": names[first], "image_b": names[second]}, winner_first
    return {}, False
