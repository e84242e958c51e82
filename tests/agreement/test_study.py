from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pamela_rl.agreement.study import make_study, metadata_codes
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.errors import DataError

IMAGES = ["a", "b", "c", "d"]
ROWS = pd.DataFrame(
    [
        ("ada", "a", 5, "train", "animal", None),
        ("bob", "b", 2, "train", "food", "oil"),
        ("ada", "c", 3, "val_seen", None, "oil"),
        ("eve", "c", 1, "val_seen", None, "oil"),  # known people did not rate for training
        ("bob", "d", 4, "test_seen", "food", "ink"),
        ("zoe", "d", 2, "test_unseen", "food", "ink"),
    ],
    columns=["user_id", "image", "rating", "split", "group", "style"],
)
FEATURES = torch.arange(8.0).reshape(4, 2)


def test_ratings_go_where_their_split_says() -> None:
    study = make_study(RatingTable(ROWS), FEATURES, IMAGES)
    data = study.data
    assert data.user_ids == ("ada", "bob")
    assert (data.train.users.tolist(), data.train.images.tolist(), data.train.ratings.tolist()) == (
        [0, 1], [0, 1], [5.0, 2.0],
    )  # fmt: skip
    assert data.validation is not None
    assert data.validation.images.tolist() == [2]
    assert data.scale == RatingScale()
    assert sorted(study.held_out) == ["test_seen", "test_unseen", "val_seen"]
    assert study.held_out["test_unseen"].user_ids.tolist() == ["zoe"]
    torch.testing.assert_close(study.held_out["test_seen"].images.features, FEATURES[3:])
    assert study.test_image_rows.tolist() == [3]


def test_a_seen_person_without_training_ratings_is_left_out_of_the_seen_splits() -> None:
    study = make_study(RatingTable(ROWS), FEATURES, IMAGES)
    assert study.held_out["val_seen"].user_ids.tolist() == ["ada"]


def test_what_a_model_learned_from_is_written_down() -> None:
    study = make_study(RatingTable(ROWS), FEATURES, IMAGES, seed=7)
    assert study.fitted_on.users == {"ada", "bob"}
    assert study.fitted_on.images == {"a", "b", "c"}
    assert study.fitted_on.seed == 7


def test_what_is_known_of_pictures_is_numbered_and_nothing_is_zero() -> None:
    codes = metadata_codes(ROWS, {image: row for row, image in enumerate(IMAGES)}, ("group", "style", "type"))
    assert codes is not None
    assert codes.tolist() == [[1, 0], [2, 2], [0, 2], [2, 1]]
    assert metadata_codes(ROWS, {"a": 0}, ("type",)) is None


def test_choices_are_split_like_ratings() -> None:
    rows = pd.DataFrame(
        [("ada", "a", "b", "a", "train"), ("bob", "d", "c", "tie", "test_seen"), ("zoe", "d", "c", "b", "test_unseen")],
        columns=["user_id", "image_a", "image_b", "choice", "split"],
    )
    study = make_study(RatingTable(ROWS), FEATURES, IMAGES, ChoiceTable(rows))
    assert study.data.choices is not None
    assert study.data.choices.outcomes.tolist() == [1.0]
    assert study.choices is not None
    assert study.choices.user_ids.tolist() == ["bob"]
    assert study.choices.outcomes.tolist() == [0.5]
    torch.testing.assert_close(study.choices.first.features, FEATURES[[3]])
    torch.testing.assert_close(study.choices.second.features, FEATURES[[2]])


def test_choices_alone_are_enough_to_learn_from() -> None:
    rows = pd.DataFrame([("ada", "a", "b", "a", "train")], columns=["user_id", "image_a", "image_b", "choice", "split"])
    study = make_study(RatingTable(ROWS[:0]), FEATURES, IMAGES, ChoiceTable(rows))
    assert study.data.user_ids == ("ada",)
    assert not len(study.data.train)


def test_without_training_rows_there_is_no_study() -> None:
    with pytest.raises(DataError, match="has no row in the split 'train'; there is nothing to learn from"):
        make_study(RatingTable(ROWS[ROWS["split"] != "train"]), FEATURES, IMAGES)


def test_repeats_stay_repeats() -> None:
    twice = pd.concat([ROWS, ROWS[:1].assign(rating=3)], ignore_index=True)
    study = make_study(RatingTable(twice), FEATURES, IMAGES)
    np.testing.assert_array_equal(study.data.train.ratings, [5, 2, 3])
