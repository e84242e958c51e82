"""Each leak is put in, is found, and is shown to matter: a model that only remembers looks good through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pamela_rl.agreement.per_user import agreement
from pamela_rl.data.choices import ChoiceTable
from pamela_rl.data.leaks import find_leaks
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.data.splits import SplitFractions, split_users_and_images
from pamela_rl.errors import DataError

SEEN_ONLY = SplitFractions(val_images=0, unseen_users=0)
PEOPLE, PICTURES = 20, 60


def nothing_to_learn(copies: int = 1) -> RatingTable:
    """Everybody likes every picture to a degree of their own, says so twice, and of each copy of it too."""
    numbers = np.random.default_rng(0)
    liking = numbers.normal(size=(PEOPLE, PICTURES))
    user, pil_image, copy, _ = (index.ravel() for index in np.indices((PEOPLE, PICTURES, copies, 2)))
    rating = np.clip(liking[user, pil_image] + 0.5 * numbers.normal(size=len(user)), -5, 5)
    names = [f"{p}{'abc'[c]}.png" for p, c in zip(pil_image, copy)]
    rows = pd.DataFrame({"user_id": [f"p{p}" for p in user], "image": names, "rating": rating})
    return RatingTable(rows, RatingScale(-5, 5, step=0))


def score_of_memory(table: RatingTable, looks_like: dict[str, str]) -> float:
    """Mean SROCC over people of a model that repeats what a person said of whatever looked the same."""
    rows = table.rows.assign(look=table.rows["image"].map(lambda image: looks_like.get(image, image)))
    test = rows[rows["split"] == "test_seen"]
    remembered = rows[rows["split"] == "train"].groupby(["user_id", "look"])["rating"].mean().rename("remembered")
    predicted = test.join(remembered, on=["user_id", "look"])["remembered"].fillna(0.0).to_numpy()
    return agreement("memory", predicted, test["rating"].to_numpy(), test["user_id"].to_numpy()).srocc[0]


def test_a_repeat_on_the_other_side_is_found_and_matters() -> None:
    honest = split_users_and_images(nothing_to_learn(), fractions=SEEN_ONLY)
    assert find_leaks(honest) == []
    assert score_of_memory(honest, {}) == 0
    second = honest.rows.duplicated(["user_id", "image"]).to_numpy()
    leaking = replace(honest, rows=honest.rows.assign(split=np.where(second, "test_seen", "train")))
    assert find_leaks(leaking) == [
        "60 images stand in train and in test ('0a.png', '10a.png', '11a.png', …); every image belongs on one side.",
        "1200 repeated opinions stand in train and in test ('user p0 of 0a.png', 'user p0 of 10a.png', "
        "'user p0 of 11a.png', …); keep a person's repeats on one side.",
    ]
    assert score_of_memory(leaking, {}) > 0.7


def test_a_near_duplicate_on_the_other_side_is_found_and_matters() -> None:
    table = nothing_to_learn(copies=2)
    groups = {f"{pil_image}b.png": f"{pil_image}a.png" for pil_image in range(PICTURES)}
    honest = split_users_and_images(table, fractions=SEEN_ONLY, groups=groups)
    assert find_leaks(honest, groups=groups) == []
    assert score_of_memory(honest, groups) == 0
    careless = split_users_and_images(table, fractions=SEEN_ONLY)
    assert find_leaks(careless) == []  # nobody said that they are copies
    (sentence,) = find_leaks(careless, groups=groups)
    assert "groups of near-duplicates stand in train and in test ('" in sentence
    assert score_of_memory(careless, groups) > 0.5


def choices_by_quality() -> ChoiceTable:
    numbers = np.random.default_rng(0)
    quality = numbers.normal(size=PICTURES)
    pairs = np.stack([numbers.choice(PICTURES, 2, replace=False) for _ in range(2000)])
    chosen = np.where(np.diff(quality[pairs])[:, 0] < 0.3 * numbers.normal(size=2000), "a", "b")
    names = pd.DataFrame(pairs.astype(str), columns=["image_a", "image_b"])
    return ChoiceTable(names.assign(choice=chosen, user_id=[f"p{row % PEOPLE}" for row in range(2000)]))


def accuracy_of_memory(table: ChoiceTable) -> float:
    """Share of test choices that go to the picture that won more often in training, one half where none did."""
    train, test = (table.split(name).rows for name in ("train", "test_seen"))
    for_a = train["choice"] == "a"
    won = pd.concat([train["image_a"].where(for_a, train["image_b"])]).value_counts()
    lost = pd.concat([train["image_b"].where(for_a, train["image_a"])]).value_counts()
    share = won.add(1).div(won.add(lost, fill_value=0).add(2))
    a, b = (test[column].map(share).fillna(0.5) for column in ("image_a", "image_b"))
    return float(np.where(a == b, 0.5, (a > b) == (test["choice"] == "a")).mean())


def test_a_pair_and_a_picture_shared_by_two_sides_are_found_and_matter() -> None:
    table = choices_by_quality()
    honest = split_users_and_images(table, fractions=SEEN_ONLY)
    assert find_leaks(honest) == []
    assert accuracy_of_memory(honest) == 0.5
    split = np.where(np.random.default_rng(1).random(2000) < 0.2, "test_seen", "train")
    leaking = replace(table, rows=table.rows.assign(split=split))
    images, opinions, pairs = find_leaks(leaking)
    assert images.startswith("60 images stand in train and in test")
    assert "repeated opinions stand in train and in test" in opinions
    assert "pairs stand in train and in test ('" in pairs
    assert pairs.endswith("keep a pair on one side.")
    assert accuracy_of_memory(leaking) > 0.8


def test_a_pair_is_the_same_whichever_picture_comes_first() -> None:
    rows = pd.DataFrame({"user_id": ["u", "v"], "image_a": ["x", "y"], "image_b": ["y", "x"], "choice": "a"})
    table = ChoiceTable(rows.assign(split=["train", "test_seen"]))
    assert "1 pair stands in train and in test ('x and y'); keep a pair on one side." in find_leaks(table)


def one_row_a_split(**changes: tuple[str, str]) -> RatingTable:
    columns = {"user_id": ("u", "v"), "image": ("x", "y"), "split": ("train", "test_unseen")} | changes
    return RatingTable(pd.DataFrame({name: list(values) for name, values in columns.items()}).assign(rating=3))


def test_a_choice_on_one_side_and_a_rating_on_the_other_share_a_picture() -> None:
    ratings = one_row_a_split()
    choice = pd.DataFrame({"user_id": ["w"], "image_a": ["z"], "image_b": ["y"], "choice": ["a"], "split": ["train"]})
    assert find_leaks(ratings) == find_leaks(ChoiceTable(choice)) == []
    assert find_leaks(ratings, ChoiceTable(choice)) == [
        "1 image stands in train and in test ('y'); every image belongs on one side."
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"user_id": ("u", "u")}, "1 user stands among the seen and among the unseen ('u'); keep each person's"),
        ({"image": ("x", "x")}, "1 image stands in train and in test ('x')"),
        ({"image": ("x", "x"), "split": ("val_seen", "test_unseen")}, "1 image stands in val and in test ('x')"),
    ],
)
def test_each_thing_on_two_sides_has_a_sentence(changes: dict[str, tuple[str, str]], sentence: str) -> None:
    (found,) = find_leaks(one_row_a_split(**changes))
    assert found.startswith(sentence)


def test_a_picture_for_seen_and_unseen_users_is_no_leak() -> None:
    assert find_leaks(one_row_a_split(image=("x", "x"), split=("test_seen", "test_unseen"))) == []


def test_a_table_without_a_split_is_refused() -> None:
    with pytest.raises(DataError, match="has no column 'split'"):
        find_leaks(nothing_to_learn())
