"""Ratings as numbers, and the scale that was used, where the ratings show it beyond doubt."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pamela_rl.data.ratings import RatingScale

LIKED = frozenset(
    [
        "like",
        "liked",
        "likes",
        "love",
        "loved",
        "yes",
        "y",
        "true",
        "good",
        "great",
        "up",
        "thumbs_up",
        "thumbsup",
        "positive",
        "pos",
        "favourite",
        "favorite",
        "favourites",
        "favorites",
        "keep",
        "kept",
        "accept",
        "accepted",
        "👍",
        "❤",
        "✓",
    ]
)
DISLIKED = frozenset(
    [
        "dislike",
        "disliked",
        "dislikes",
        "hate",
        "hated",
        "no",
        "n",
        "false",
        "bad",
        "down",
        "thumbs_down",
        "thumbsdown",
        "negative",
        "neg",
        "discard",
        "reject",
        "rejected",
        "not_liked",
        "👎",
        "✗",
    ]
)
NOT_RATED = frozenset(["na", "n/a", "nan", "null", "none", "?", "--", "—", "unrated", "<na>"])


def parse_ratings(values: pd.Series[Any], scale: RatingScale | None = None) -> tuple[pd.Series[Any], bool]:
    """Convert ratings to numbers where they are written as text or words.

    Decimal commas are read. If every rating that is given is a word for liked or disliked (yes and no, thumbs up and
    down, true and false, good and bad), they become the ends of the scale.

    Args:
        values: Ratings as in the file; missing, empty and "n/a" are not rated.
        scale: Whose ends words become; None is 0 and 1.

    Returns:
        Ratings, missing where there is none; values that are no number stay as they are. And whether they were words.
    """
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values, False
    if isinstance(values.dtype, pd.StringDtype):
        try:
            return _whole(values.astype("float64")), False
        except ValueError:
            pass  # not numbers alone
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip()
    text = text.mask(text.str.casefold().isin(NOT_RATED), "")
    given = text[text != ""]
    words = {word: _word(word) for word in given.unique()}
    if words and all(name in LIKED or name in DISLIKED for name in words.values()):
        low, high = (scale.low, scale.high) if scale else (0.0, 1.0)
        ends = {word: high if name in LIKED else low for word, name in words.items()}
        return text.map(ends).astype("float64"), True
    commas = text.str.fullmatch(r"[+-]?\d*,\d+").fillna(False).astype(bool)
    text = text.mask(commas, text.str.replace(",", "."))
    numbers = pd.to_numeric(text, errors="coerce").astype("float64")
    if numbers[text != ""].notna().all():
        return _whole(numbers), False
    return text.mask(text == "", None), False


def guess_scale(ratings: pd.Series[Any], words: bool = False) -> RatingScale | None:
    """Return the scale that ratings show, or None if they fit 1 to 5 or show none beyond doubt.

    These are guessed, and no others:

    - liked or disliked in words, and only 0 and 1 with a 0 among them: 0 to 1 with step 1;
    - only -1 and 1, perhaps 0, with a -1 among them: -1 to 1 with step 2, or 1 if there is a 0;
    - numbers from 0 to 1 with a fraction among them and one below 1: a slider from 0 to 1;
    - numbers from 0 to 10, some above 7: 0 to 10 if there is a 0 or a fraction below 1, else 1 to 10;
    - numbers from 0 to 100, some above 50: 0 to 100.

    For the last two, more than one rating and at least a fifth of them must lie above 5, or above 10; else what lies
    there is taken for typing errors. The step is 1, or 0 if there are fractions.

    Args:
        ratings: As ``parse_ratings`` returns them; what is no number is ignored.
        words: They were words.
    """
    numbers = pd.to_numeric(ratings, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    if words:
        return RatingScale(0, 1, 1)
    if not len(numbers) or (numbers.min() >= 1 and numbers.max() <= 5):
        return None
    values, fractions = set(numbers.tolist()), bool((numbers % 1 != 0).any())
    if values <= {0.0, 1.0}:
        return RatingScale(0, 1, 1)
    if values <= {-1.0, 0.0, 1.0}:
        return RatingScale(-1, 1, 1 if 0.0 in values else 2)
    if numbers.min() < 0:
        return None
    if numbers.max() <= 1:
        return RatingScale(0, 1)
    step = 0.0 if fractions else 1.0
    if 7 < numbers.max() <= 10 and _many(numbers > 5):
        return RatingScale(0 if numbers.min() < 1 else 1, 10, step)
    if 50 < numbers.max() <= 100 and _many(numbers > 10):
        return RatingScale(0, 100, step)
    return None


def rating_of_name(name: str) -> float | str | None:
    """Return the rating that the name of a folder is: a number, e.g. of "4" or "4 stars", or "liked" or "disliked".

    None if it is neither.
    """
    number = re.fullmatch(r"([+-]?\d+(?:[.,]\d+)?)(?:[ _-]*(?:stars?|points?))?", name.strip().casefold())
    if number:
        return float(number[1].replace(",", "."))
    word = _word(name)
    return "liked" if word in LIKED else "disliked" if word in DISLIKED else None


def _whole(numbers: pd.Series[Any]) -> pd.Series[Any]:
    """Return whole numbers as integers, which messages show without a fraction."""
    is_whole = len(numbers) > 0 and bool((numbers % 1 == 0).all() and (numbers.abs() < 2**53).all())
    return numbers.astype("int64") if is_whole else numbers


def _many(above: NDArray[np.bool_]) -> bool:
    return int(above.sum()) > 1 and float(above.mean()) >= 0.2


def _word(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("\ufe0f", "").strip().casefold()
    return re.sub(r"[\s_-]+", "_", plain) if len(plain) > 1 else plain
