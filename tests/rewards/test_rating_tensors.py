from __future__ import annotations

import pandas as pd
import pytest
import torch

from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.preference import RatingTensors
from pamela_rl.rewards.rating_tensors import choice_tensors, hold_out_images, rating_tensors

ROWS = {"x": 5, "y": 9}


def test_rows_of_a_table_become_numbers() -> None:
    table = pd.DataFrame(
        {"user_id": ["b", "a", "b"], "image": ["y", "x", "y"], "rating": [4, 2, 0.25]}, index=[10, 3, 3]
    )
    seen = rating_tensors(table, ("a", "b"), ROWS)
    assert (seen.users.tolist(), seen.images.tolist(), seen.ratings.tolist()) == (
        [1, 0, 1],
        [9, 5, 9],
        [4.0, 2.0, 0.25],
    )
    assert seen.ratings.dtype == torch.float64
    second = seen[torch.tensor([1])]
    assert (second.users.tolist(), second.images.tolist(), second.ratings.tolist()) == ([0], [5], [2.0])


def test_choices_become_numbers_from_one_for_a_to_nought_for_b() -> None:
    table = pd.DataFrame(
        {
            "user_id": ["b", "a", "a"],
            "image_a": ["y", "x", "x"],
            "image_b": ["x", "y", "y"],
            "choice": ["a", "b", "tie"],
        },
        index=[7, 7, 1],
    )
    made = choice_tensors(table, ("a", "b"), ROWS)
    assert (made.users.tolist(), made.first.tolist(), made.second.tolist()) == ([1, 0, 0], [9, 5, 5], [5, 9, 9])
    assert made.outcomes.tolist() == [1.0, 0.0, 0.5]
    assert (len(made), made.outcomes.dtype) == (3, torch.float64)


def test_an_answer_of_a_stranger_is_refused() -> None:
    table = pd.DataFrame({"user_id": ["b", "eve"], "image": ["x", "x"], "rating": [4, 2]})
    sentence = r"1 people who rated are not among the 1 to fit, e\.g\. 'eve'; leave"
    with pytest.raises(UnknownUserError, match=sentence):
        rating_tensors(table, ("b",), ROWS)
    chosen = pd.DataFrame({"user_id": ["eve"], "image_a": ["x"], "image_b": ["y"], "choice": ["a"]})
    with pytest.raises(UnknownUserError, match=sentence):
        choice_tensors(chosen, ("b",), ROWS)


@pytest.mark.parametrize("column", ["image_a", "image_b"])
def test_a_picture_without_features_is_refused(column: str) -> None:
    table = pd.DataFrame({"user_id": ["b", "b"], "image": ["x", "z"], "rating": [4, 2]})
    sentence = r"1 rated images have no features, e\.g\. 'z'; encode them first"
    with pytest.raises(DataError, match=sentence):
        rating_tensors(table, ("b",), ROWS)
    chosen = pd.DataFrame({"user_id": ["b"], "image_a": ["x"], "image_b": ["y"], "choice": ["a"]}).assign(
        **{column: "z"}
    )
    with pytest.raises(DataError, match=sentence):
        choice_tensors(chosen, ("b",), ROWS)


@pytest.mark.parametrize(("num_images", "apart"), [(1, 1), (10, 1), (11, 2), (95, 10)])
def test_one_picture_in_ten_is_held_out_with_all_its_ratings(num_images: int, apart: int) -> None:
    images = 3 * torch.arange(num_images).repeat(4)  # rows of pictures need not be all there are
    ratings = RatingTensors(
        torch.arange(4).repeat_interleave(num_images), images, torch.arange(4.0 * num_images).double()
    )
    kept, held_out = hold_out_images(ratings, seed=2)
    assert len(held_out.images.unique()) == apart
    assert not set(held_out.images.tolist()) & set(kept.images.tolist())
    assert sorted([*kept.ratings.tolist(), *held_out.ratings.tolist()]) == ratings.ratings.tolist()
    for part in (kept, held_out):  # a rating keeps its person and its picture
        place = part.ratings.long()
        assert torch.equal(part.users, ratings.users[place])
        assert torch.equal(part.images, ratings.images[place])


def test_another_seed_holds_out_other_pictures_and_the_callers_randomness_stays() -> None:
    ratings = RatingTensors(torch.zeros(200, dtype=torch.int64), torch.arange(200), torch.zeros(200).double())
    before = torch.get_rng_state()
    first, again, other = (hold_out_images(ratings, seed)[1].images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
