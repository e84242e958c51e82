from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pamela_rl.data.ratings import SPLITS, RatingTable
from pamela_rl.world.captions import parse_prompt
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters
from pamela_rl.world.ratings import SEEN_USERS, WorldRatings, draw_rated_images, make_ratings


def of(ratings: WorldRatings, *splits: str) -> pd.DataFrame:
    return ratings.table[ratings.table["split"].isin(splits)]


def test_splits_have_the_sizes_of_the_papers_layout(world_ratings: WorldRatings) -> None:
    train, val, test = 420, 72, 108  # of 600 pictures: 70 %, 12 %, 18 %
    sizes = world_ratings.table["split"].value_counts().to_dict()
    assert sizes == {
        "train": train * 15,
        "val_seen": val * 11,
        "val_unseen": val * 2,
        "test_seen": test * 11,
        "test_unseen": test * 4,
    }


def test_every_picture_has_about_fifteen_raters_and_nobody_rates_one_twice(world_ratings: WorldRatings) -> None:
    table = world_ratings.table
    counts = table.groupby("image").size()
    assert len(counts) == 600
    assert counts.between(13, 15).all()
    assert counts.mean() > 14.5
    assert not table.duplicated(["user_id", "image"]).any()


def test_no_picture_of_training_is_seen_in_validation_or_test(world_ratings: WorldRatings) -> None:
    parts = [
        set(of(world_ratings, *names)["image"])
        for names in (["train"], ["val_seen", "val_unseen"], ["test_seen", "test_unseen"])
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 600
    pictures = [set(of(world_ratings, name)["image_index"]) for name in SPLITS]
    assert not pictures[0] & set.union(*pictures[1:])


def test_unseen_users_are_only_in_unseen_splits_and_seen_users_never(
    world_ratings: WorldRatings, raters: Raters
) -> None:
    new = set(of(world_ratings, "val_unseen", "test_unseen")["user_id"])
    known = set(of(world_ratings, "train", "val_seen", "test_seen")["user_id"])
    assert known == set(raters.user_ids[:SEEN_USERS])
    assert new == set(raters.user_ids[SEEN_USERS:])


def test_rows_agree_with_themselves(world_ratings: WorldRatings, raters: Raters) -> None:
    table = world_ratings.table
    assert table["user_id"].tolist() == [raters.user_ids[row] for row in table["user_index"]]
    assert table["prompt"].tolist() == [world_ratings.prompts[row] for row in table["image_index"]]
    assert (table.groupby("image")["image_index"].nunique() == 1).all()


def test_ratings_use_the_whole_scale_and_follow_what_people_truly_think(world_ratings: WorldRatings) -> None:
    table = world_ratings.table
    shares = table["rating"].value_counts(normalize=True)
    assert set(shares.index) == {1, 2, 3, 4, 5}
    assert shares.min() > 0.04
    truth = world_ratings.expected_ratings[table["image_index"].tolist(), table["user_index"].tolist()].numpy()
    error = table["rating"].to_numpy() - truth
    assert abs(error.mean()) < 0.05
    assert 0.5 < error.std() < 0.75


def test_expectations_are_those_of_each_picture_alone(
    world_ratings: WorldRatings, raters: Raters, content_judge: ContentJudge
) -> None:
    for row in (0, 499, 500, 599):
        alone = raters.expected_ratings(
            world_ratings.images[row : row + 1], [world_ratings.prompts[row]], content_judge
        )
        torch.testing.assert_close(alone[0], world_ratings.expected_ratings[row], atol=1e-4, rtol=0)


def test_the_table_is_a_rating_table_with_five_splits(world_ratings: WorldRatings, raters: Raters) -> None:
    table = RatingTable(world_ratings.table, raters=raters.demographics)
    assert sum(len(table.split(name).rows) for name in SPLITS) == len(table.rows)
    assert len(table.user_ids) == 200


def test_ratings_repeat_with_their_seed_and_differ_between_seeds(raters: Raters, content_judge: ContentJudge) -> None:
    first, again, other = (make_ratings(raters, content_judge, seed, num_images=20) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(first.table, again.table)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert not set(first.table["image"]) & set(other.table["image"])


def test_some_pictures_are_spoilt_and_some_show_something_else(content_judge: ContentJudge) -> None:
    images, prompts = draw_rated_images(600, seed=3)
    seen = content_judge.classify(images)
    corrupted = np.array([value == "corrupted" for value in seen["condition"]])
    assert corrupted.mean() == pytest.approx(0.08, abs=0.04)
    wrong = np.array([parse_prompt(p)["subject"] != value for p, value in zip(prompts, seen["subject"])])
    assert wrong[~corrupted].mean() == pytest.approx(0.06 * 7 / 8, abs=0.03)
    assert {len(parse_prompt(prompt)) for prompt in prompts} == {1, 2}
