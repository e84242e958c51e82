from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pamela_rl.agreement.ceiling import ceiling, implied_ceiling, repeated_ratings, rerating_agreement
from pamela_rl.agreement.measures import plcc, rows_by_group
from pamela_rl.agreement.per_user import agreement, format_table
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.errors import DataError

OPEN = RatingScale(-100, 100, step=0)
PEOPLE, PICTURES, REPEATS, NOISE = 100, 100, 4, 0.8


def table_of(ratings: np.ndarray, scale: RatingScale = OPEN) -> RatingTable:
    """Ratings ``(people, pictures, repeats)`` as a table in the order of the repeats."""
    user, image, time = (index.transpose(2, 0, 1).ravel() for index in np.indices(ratings.shape))
    rows = pd.DataFrame({"user_id": [f"p{p}" for p in user], "image": [f"i{i}" for i in image], "time": time})
    return RatingTable(rows.assign(rating=ratings.transpose(2, 0, 1).ravel()), scale)


@pytest.fixture(scope="module")
def opinions() -> tuple[np.ndarray, np.ndarray]:
    """What people think, ``(people, pictures)``, and four ratings of it with noise of their own."""
    numbers = np.random.default_rng(0)
    truth = numbers.normal(size=(PEOPLE, PICTURES))
    return truth, truth[..., None] + NOISE * numbers.normal(size=(PEOPLE, PICTURES, REPEATS))


def test_people_agree_with_themselves_as_reliably_as_they_rate(opinions: tuple[np.ndarray, np.ndarray]) -> None:
    again = rerating_agreement(table_of(opinions[1]))
    assert again.num_users == PEOPLE
    assert again.plcc[0] == pytest.approx(1 / (1 + NOISE**2), abs=0.01)
    assert again.mae[0] == pytest.approx(NOISE * 2**0.5 * (2 / np.pi) ** 0.5, abs=0.02)


@pytest.mark.parametrize("num_repeats", [1, 2, 4])
def test_who_knows_what_people_think_reaches_the_ceiling_and_not_more(
    opinions: tuple[np.ndarray, np.ndarray], num_repeats: int
) -> None:
    truth, ratings = opinions
    implied = implied_ceiling(rerating_agreement(table_of(ratings)), num_repeats)
    users = np.repeat(np.arange(PEOPLE), PICTURES)
    perfect = agreement("truth", truth.ravel(), ratings[..., :num_repeats].mean(axis=2).ravel(), users)
    assert perfect.plcc[0] == pytest.approx(implied.plcc[0], abs=0.008)
    assert perfect.srocc[0] == pytest.approx(implied.srocc[0], abs=0.02)
    assert implied.plcc[1] < perfect.plcc[0] < implied.plcc[2]


def test_the_ceiling_is_the_root_of_spearman_and_browns_reliability() -> None:
    assert ceiling(0.49) == pytest.approx(0.7)
    assert ceiling(0.5, 2) == pytest.approx((2 / 3) ** 0.5)
    assert ceiling(0.5, 1_000_000) == pytest.approx(1, abs=1e-5)
    assert ceiling(-0.2, 3) == 0
    assert ceiling(1.0, 5) == 1


def test_the_first_two_ratings_count_in_the_order_that_a_column_tells(
    opinions: tuple[np.ndarray, np.ndarray],
) -> None:
    table = table_of(opinions[1])
    repeats = repeated_ratings(RatingTable(table.rows.sample(frac=1, random_state=0), OPEN), order_by="time")
    assert len(repeats.first) == PEOPLE * PICTURES
    for side, time in ((repeats.first, 0), (repeats.second, 1)):
        assert sorted(side) == sorted(opinions[1][..., time].ravel())
    in_order = repeated_ratings(table)
    assert sorted(zip(in_order.first, in_order.second)) == sorted(zip(repeats.first, repeats.second))
    with pytest.raises(DataError, match="has no column 'block'"):
        repeated_ratings(table, order_by="block")


def test_pictures_rated_once_are_not_compared_with_anything() -> None:
    rows = pd.DataFrame({"user_id": ["a", "a", "b", "a"], "image": ["x", "y", "x", "x"], "rating": [1.0, 2, 3, 4]})
    repeats = repeated_ratings(RatingTable(rows))
    assert (repeats.users.tolist(), repeats.first.tolist(), repeats.second.tolist()) == (["a"], [1], [4])


def test_a_table_without_repeats_has_no_ceiling(opinions: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"nobody in the rating table rated 5 pictures or more twice and not all alike"):
        rerating_agreement(table_of(opinions[1][..., :1]))


def test_ceilings_stand_in_the_table_with_what_they_bound(opinions: tuple[np.ndarray, np.ndarray]) -> None:
    again = rerating_agreement(table_of(opinions[1]))
    text = format_table([again, implied_ceiling(again), implied_ceiling(again, 2)]).splitlines()
    assert [line[:25].strip() for line in text[1:]] == [
        "the same people again",
        "ceiling for a rating",
        "ceiling for the mean of 2",
    ]
    assert text[2].split()[-2:] == ["-", "-"]  # neither pairs nor errors are bounded


def test_real_people_agree_with_themselves_as_was_measured(human_ratings: Path) -> None:
    table = RatingTable.from_file(human_ratings / "ratings.csv", RatingScale(0, 1))
    repeats = repeated_ratings(table, "block")
    each = np.array([plcc(repeats.first[mine], repeats.second[mine]) for mine in rows_by_group(repeats.users)])
    assert np.nanmean(each) == pytest.approx(0.485, abs=0.001)
    assert np.nanmedian(each) == pytest.approx(0.546, abs=0.001)
    again = rerating_agreement(table, "block")
    assert again.plcc[0] == pytest.approx(np.nanmean(each))
    assert again.num_users == 98  # two moved the slider nowhere
    assert implied_ceiling(again).plcc[0] == pytest.approx(0.697, abs=0.002)
    assert implied_ceiling(again, 2).plcc[0] == pytest.approx(0.808, abs=0.002)
