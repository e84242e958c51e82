from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.leaks import SIDE_OF_SPLIT, find_leaks
from pamela_rl.data.ratings import SPLITS, RatingScale, RatingTable
from pamela_rl.data.splits import SplitFractions, assign_splits, split_users_and_images
from pamela_rl.errors import ConfigError, DataError


def everybody_rates_everything(users: int = 20, images: int = 50, repeats: int = 2) -> RatingTable:
    cells = [(f"p{user}", f"{image}.png") for user in range(users) for image in range(images)]
    rows = pd.DataFrame(cells * repeats, columns=["user_id", "image"])
    return RatingTable(rows.assign(rating=np.random.default_rng(0).integers(1, 6, len(rows))))


def random_pairs(users: int = 20, images: int = 50, each: int = 40) -> ChoiceTable:
    numbers = np.random.default_rng(1)
    pairs = np.stack([numbers.choice(images, 2, replace=False) for _ in range(users * each)])
    names = pd.DataFrame(pairs, columns=["image_a", "image_b"]).map(lambda image: f"{image}.png")
    return ChoiceTable(names.assign(user_id=np.repeat([f"p{p}" for p in range(users)], each), choice="a"))


@pytest.mark.parametrize("seed", range(5))
def test_the_five_splits_are_the_papers(seed: int) -> None:
    rows = split_users_and_images(everybody_rates_everything(), seed).rows
    users = {split: set(rows.loc[rows["split"] == split, "user_id"]) for split in SPLITS}
    images = {split: set(rows.loc[rows["split"] == split, "image"]) for split in SPLITS}
    assert users["train"] == users["val_seen"] == users["test_seen"]
    assert users["val_unseen"] == users["test_unseen"]
    assert not users["train"] & users["test_unseen"]
    assert [len(users[split]) for split in ("train", "test_unseen")] == [16, 4]
    assert images["val_seen"] == images["val_unseen"]
    assert images["test_seen"] == images["test_unseen"]
    assert [len(images[split]) for split in ("train", "val_seen", "test_seen")] == [35, 5, 10]
    assert len(images["train"] | images["val_seen"] | images["test_seen"]) == 50


def test_what_unseen_users_said_of_training_pictures_is_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = everybody_rates_everything()
    with caplog.at_level(logging.WARNING):
        split = split_users_and_images(table)
    assert len(table.rows) - len(split.rows) == 4 * 35 * 2
    assert "280 rows left out: unseen people on training images" in caplog.text


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    table = everybody_rates_everything()
    shuffled = RatingTable(table.rows.sample(frac=1, random_state=3))
    one = split_users_and_images(table, 7).rows
    pd.testing.assert_frame_equal(split_users_and_images(shuffled, 7).rows.sort_index(), one)
    other = split_users_and_images(table, 8).rows
    assert set(one.loc[one["split"] == "train", "image"]) != set(other.loc[other["split"] == "train", "image"])


@pytest.mark.parametrize("seed", range(5))
def test_images_of_a_group_stay_together_whether_a_column_or_a_mapping_tells_it(seed: int) -> None:
    table = everybody_rates_everything()
    number = table.rows["image"].str.removesuffix(".png").astype(int)
    with_scene = RatingTable(table.rows.assign(scene="scene " + (number // 5).astype(str)))
    mapping = dict(zip(with_scene.rows["image"], with_scene.rows["scene"]))
    by_column = split_users_and_images(with_scene, seed, groups="scene")
    sides = by_column.rows["split"].map(SIDE_OF_SPLIT).groupby(by_column.rows["scene"]).nunique()
    assert (sides == 1).all()
    by_mapping = split_users_and_images(table, seed, groups=mapping)
    assert by_mapping.rows["split"].equals(by_column.rows["split"])
    assert find_leaks(by_mapping, groups=mapping) == []


def test_pairs_across_sides_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    table = random_pairs()
    with caplog.at_level(logging.WARNING):
        split = split_users_and_images(table, fractions=SplitFractions(unseen_users=0))
    side = assign_splits([table]).images
    straddling = [side[a] != side[b] for a, b in zip(table.rows["image_a"], table.rows["image_b"])]
    assert len(split.rows) == len(table.rows) - sum(straddling) < len(table.rows)
    assert f"{sum(straddling)} pairs left out: their images are on different sides" in caplog.text
    assert all(side[a] == side[b] for a, b in zip(split.rows["image_a"], split.rows["image_b"]))
    assert find_leaks(split) == []


def test_ratings_and_choices_drawn_together_leak_nothing_to_one_another() -> None:
    ratings, choices = everybody_rates_everything(), random_pairs()
    sides = assign_splits([ratings, choices], seed=2)
    assert find_leaks(sides.split(ratings), sides.split(choices)) == []
    assert find_leaks(sides.split(ratings), assign_splits([choices], seed=3).split(choices)) != []


def test_without_unseen_users_there_are_three_splits() -> None:
    split = split_users_and_images(everybody_rates_everything(), fractions=SplitFractions(unseen_users=0))
    assert set(split.rows["split"]) == {"train", "val_seen", "test_seen"}
    assert len(split.rows) == 2000


def test_real_ratings_come_apart_without_a_leak(human_ratings: Path) -> None:
    table = RatingTable.from_file(human_ratings / "ratings.csv", RatingScale(0, 1))
    split = split_users_and_images(table)
    assert find_leaks(split) == []
    assert split.rows.groupby("split")["rating"].size().loc["train"] == 80 * 38 * 2


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"val_images is 0.5 and test_images 0.5; both must be at least 0 and together"
    ):
        SplitFractions(val_images=0.5, test_images=0.5)
    with pytest.raises(ConfigError, match="unseen_users is 1; use a fraction from 0 to less than 1"):
        SplitFractions(unseen_users=1)
    with pytest.raises(
        DataError,
        match=r"there are 3 groups of images, too few to hold some out for 'val' with fractions of .*; give more",
    ):
        split_users_and_images(everybody_rates_everything(images=3))
    with pytest.raises(DataError, match="there are 1 people, too few to hold some out for 'unseen'"):
        split_users_and_images(everybody_rates_everything(users=1))


def test_groups_that_cannot_be_had_are_named() -> None:
    table = everybody_rates_everything()
    with pytest.raises(DataError, match="has no column 'scene' of groups beside 'image'; give a mapping by picture"):
        split_users_and_images(table, groups="scene")
    torn = RatingTable(table.rows.assign(scene=np.arange(len(table.rows))))
    with pytest.raises(DataError, match=r"puts '0\.png' in two groups by 'scene'; give each picture one"):
        split_users_and_images(torn, groups="scene")


def test_a_picture_without_a_side_is_named() -> None:
    sides = assign_splits([everybody_rates_everything(images=20)])
    with pytest.raises(DataError, match=r"30 pictures of the rating table have no side, e\.g\. '20\.png'; draw again"):
        sides.split(everybody_rates_everything(images=50))
