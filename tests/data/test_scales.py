from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.scales import guess_scale, parse_ratings, rating_of_name


@pytest.mark.parametrize(
    ("ratings", "scale"),
    [
        ([1, 2, 5], None),
        ([1, 1, 1], None),
        ([3.5, 2], None),
        ([0, 1, 1], RatingScale(0, 1, 1)),
        ([0, 0], RatingScale(0, 1, 1)),
        ([-1, 1], RatingScale(-1, 1, 2)),
        ([-1, 0, 1], RatingScale(-1, 1, 1)),
        ([0.2, 1, 0], RatingScale(0, 1)),
        ([8, 9, 1], RatingScale(1, 10, 1)),
        ([8, 0, 1], None),  # one above 5 may be a typing error
        ([8, 0, 6], RatingScale(0, 10, 1)),
        ([7.5, 0.5, 6], RatingScale(0, 10, 0)),
        ([10, 10], RatingScale(1, 10, 1)),
        ([6, 7, 2], None),  # of 7 or of 10
        ([80, 3, 60], RatingScale(0, 100, 1)),
        ([80.5, 3, 60], RatingScale(0, 100, 0)),
        ([15, 20, 3], None),  # of 20 or of 100
        ([80, 101, 60], None),
        ([1, 2, 3, 4, 5, 5, 4, 3, 44, 55], RatingScale(0, 100, 1)),
        ([1, 2, 3, 4, 5, 5, 4, 3, 4, 1, 2, 44, 55], None),
        ([0, 3, 5], None),  # 0 may mean not rated
        ([-2, 2], None),
        ([6], None),
        (["good", None], None),
        ([], None),
    ],
)
def test_a_scale_is_guessed_only_where_the_ratings_show_it(ratings: list[Any], scale: RatingScale | None) -> None:
    assert guess_scale(pd.Series(ratings)) == scale


@pytest.mark.parametrize(
    ("written", "ratings", "words"),
    [
        (["3,5", " 4 ", "n/a", None, ""], [3.5, 4, None, None, None], False),
        (["Like", "DISLIKE", None], [1, 0, None], True),
        (["thumbs up", "thumbs-down"], [1, 0], True),
        (["❤️", "👎"], [1, 0], True),
        ([True, False, None], [1, 0, None], True),
        (["like", "4"], ["like", "4"], False),
        (["4", "good", "3,5"], ["4", "good", "3.5"], False),
        (["1.000,5", "2"], ["1.000,5", "2"], False),
        ([4, 2.5], [4, 2.5], False),
        (["4", "2"], [4, 2], False),
    ],
)
def test_ratings_are_numbers_however_they_are_written(written: list[Any], ratings: list[Any], words: bool) -> None:
    parsed, in_words = parse_ratings(pd.Series(written))
    assert [None if pd.isna(value) else value for value in parsed] == ratings
    assert in_words is words


def test_words_become_the_ends_of_a_scale_that_is_given() -> None:
    assert parse_ratings(pd.Series(["yes", "no"]), RatingScale(1, 5))[0].tolist() == [5, 1]


@pytest.mark.parametrize(
    ("name", "rating"),
    [("4", 4), ("4 stars", 4), ("1_star", 1), ("3,5", 3.5), ("Liked", "liked"), ("no", "disliked"), ("holiday 2024", None),
     ("2024-05", None), ("", None)],
)  # fmt: skip
def test_folders_are_ratings_by_a_number_or_a_word(name: str, rating: float | str | None) -> None:
    assert rating_of_name(name) == rating
