from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.leaks import SIDES, leaks
from pamela_rl.data.ratings import SPLITS, RatingScale, RatingTable
from pamela_rl.data.splits import SplitShares, draw_sides, split_people_and_pictures
from pamela_rl.errors import ConfigError, DataError


def everybody_rates_everything(people: int = 20, pictures: int = 50, repeats: int = 2) -> RatingTable:
    cells = [(f"p{person}", f"{picture}.png") for person in range(people) for picture in range(pictures)]
    rows = pd.DataFrame(cells * repeats, columns=["user_id", "image"])
    return RatingTable(rows.assign(rating=np.random.default_rng(0).integers(1, 6, len(rows))))


def random_pairs(people: int = 20, pictures: int = 50, each: int = 40) -> ChoiceTable:
    numbers = np.random.default_rng(1)
    pairs = np.stack([numbers.choice(pictures, 2, replace=False) for _ in range(people * each)])
    names = pd.DataFrame(pairs, columns=["image_a", "image_b"]).map(lambda picture: f"{picture}.png")
    return ChoiceTable(names.assign(user_id=np.repeat([f"p{p}" for p in range(people)], each), choice="a"))


@pytest.mark.parametrize("seed", range(5))
def test_the_five_splits_are_the_papers(seed: int) -> None:
    rows = split_people_and_pictures(everybody_rates_everything(), seed).rows
    people = {split: set(rows.loc[rows["split"] == split, "user_id"]) for split in SPLITS}
    pictures = {split: set(rows.loc[rows["split"] == split, "image"]) for split in SPLITS}
    assert people["train"] == people["val_seen"] == people["test_seen"]
    assert people["val_unseen"] == people["test_unseen"]
    assert not people["train"] & people["test_unseen"]
    assert [len(people[split]) for split in ("train", "test_unseen")] == [16, 4]
    assert pictures["val_seen"] == pictures["val_unseen"]
    assert pictures["test_seen"] == pictures["test_unseen"]
    assert [len(pictures[split]) for split in ("train", "val_seen", "test_seen")] == [35, 5, 10]
    assert len(pictures["train"] | pictures["val_seen"] | pictures["test_seen"]) == 50


def test_what_unseen_people_said_of_training_pictures_is_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = everybody_rates_everything()
    with caplog.at_level(logging.WARNING):
        split = split_people_and_pictures(table)
    assert len(table.rows) - len(split.rows) == 4 * 35 * 2
    assert "280 rows left out: unseen people on training pictures" in caplog.text


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    table = everybody_rates_everything()
    shuffled = RatingTable(table.rows.sample(frac=1, random_state=3))
    one = split_people_and_pictures(table, 7).rows
    pd.testing.assert_frame_equal(split_people_and_pictures(shuffled, 7).rows.sort_index(), one)
    other = split_people_and_pictures(table, 8).rows
    assert set(one.loc[one["split"] == "train", "image"]) != set(other.loc[other["split"] == "train", "image"])


@pytest.mark.parametrize("seed", range(5))
def test_pictures_of_a_group_stay_together_whether_a_column_or_a_mapping_tells_it(seed: int) -> None:
    table = everybody_rates_everything()
    number = table.rows["image"].str.removesuffix(".png").astype(int)
    with_scene = RatingTable(table.rows.assign(scene="scene " + (number // 5).astype(str)))
    mapping = dict(zip(with_scene.rows["image"], with_scene.rows["scene"]))
    by_column = split_people_and_pictures(with_scene, seed, groups="scene")
    sides = by_column.rows["split"].map(SIDES).groupby(by_column.rows["scene"]).nunique()
    assert (sides == 1).all()
    by_mapping = split_people_and_pictures(table, seed, groups=mapping)
    assert by_mapping.rows["split"].equals(by_column.rows["split"])
    assert leaks(by_mapping, groups=mapping) == []


def test_pairs_across_sides_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    table = random_pairs()
    with caplog.at_level(logging.WARNING):
        split = split_people_and_pictures(table, shares=SplitShares(unseen_people=0))
    side = draw_sides([table]).pictures
    straddling = [side[a] != side[b] for a, b in zip(table.rows["image_a"], table.rows["image_b"])]
    assert len(split.rows) == len(table.rows) - sum(straddling) < len(table.rows)
    assert f"{sum(straddling)} pairs left out: their pictures are on different sides" in caplog.text
    assert all(side[a] == side[b] for a, b in zip(split.rows["image_a"], split.rows["image_b"]))
    assert leaks(split) == []


def test_ratings_and_choices_drawn_together_leak_nothing_to_one_another() -> None:
    ratings, choices = everybody_rates_everything(), random_pairs()
    sides = draw_sides([ratings, choices], seed=2)
    assert leaks(sides.split(ratings), sides.split(choices)) == []
    assert leaks(sides.split(ratings), draw_sides([choices], seed=3).split(choices)) != []


def test_without_unseen_people_there_are_three_splits() -> None:
    split = split_people_and_pictures(everybody_rates_everything(), shares=SplitShares(unseen_people=0))
    assert set(split.rows["split"]) == {"train", "val_seen", "test_seen"}
    assert len(split.rows) == 2000


def test_real_ratings_come_apart_without_a_leak(human_ratings: Path) -> None:
    table = RatingTable.from_file(human_ratings / "ratings.csv", RatingScale(0, 1))
    split = split_people_and_pictures(table)
    assert leaks(split) == []
    assert split.rows.groupby("split")["rating"].size().loc["train"] == 80 * 38 * 2


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"val_pictures is 0.5 and test_pictures 0.5; both are at least 0 and leave"):
        SplitShares(val_pictures=0.5, test_pictures=0.5)
    with pytest.raises(ConfigError, match="unseen_people is 1; use a share from 0 to less than 1"):
        SplitShares(unseen_people=1)
    with pytest.raises(DataError, match=r"3 pictures in 3 groups leave none for 'val' with shares of .*; change the"):
        split_people_and_pictures(everybody_rates_everything(pictures=3))
    with pytest.raises(DataError, match="1 people in 1 persons leave none for 'unseen'"):
        split_people_and_pictures(everybody_rates_everything(people=1))


def test_groups_that_cannot_be_had_are_named() -> None:
    table = everybody_rates_everything()
    with pytest.raises(DataError, match="has no column 'scene' of groups beside 'image'; give a mapping by picture"):
        split_people_and_pictures(table, groups="scene")
    torn = RatingTable(table.rows.assign(scene=np.arange(len(table.rows))))
    with pytest.raises(DataError, match=r"puts '0\.png' in two groups by 'scene'; give each picture one"):
        split_people_and_pictures(torn, groups="scene")


def test_a_picture_without_a_side_is_named() -> None:
    sides = draw_sides([everybody_rates_everything(pictures=20)])
    with pytest.raises(DataError, match=r"30 pictures of the rating table have no side, e\.g\. '20\.png'; draw again"):
        sides.split(everybody_rates_everything(pictures=50))
