from __future__ import annotations

import numpy as np
import pytest
import torch

from pamela_rl.agreement.advice import advice
from pamela_rl.agreement.cross_validation import SPLIT, cross_validate, make_folds
from pamela_rl.agreement.study import Study
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError
from pamela_rl.rewards.personal import FittedOn
from pamela_rl.rewards.preference import ChoiceTensors, ImageFeatures, RatingData, RatingTensors

NUM_IMAGES = 60
NAMES = ("taste_basis", "ridge_per_user", "population_mean")


def make_study(num_people: int = 1, noise: float = 0.3, chance: bool = False, choices: bool = False) -> Study:
    """A study of people who like one direction of the features, or answer by chance."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(NUM_IMAGES, 8, generator=generator)
    liked = 3 + features @ torch.randn(8, num_people, generator=generator) / 3
    users = torch.arange(num_people).repeat_interleave(NUM_IMAGES)
    images = torch.arange(NUM_IMAGES).repeat(num_people)
    given = liked[images, users] + noise * torch.randn(len(users), generator=generator)
    if chance:
        given = torch.randn(len(users), generator=generator)
    ratings = RatingTensors(users, images, given.double())
    pairs = None
    if choices:
        first, second = torch.randint(NUM_IMAGES, (2, 150), generator=generator)
        won = liked[first, 0] > liked[second, 0]
        pairs = ChoiceTensors(torch.zeros(150, dtype=torch.int64), first, second, won.double())
        ratings = ratings[torch.zeros(0, dtype=torch.int64)]
    names = tuple(f"p{user}" for user in range(num_people))
    data = RatingData(ImageFeatures(features, ids=torch.arange(NUM_IMAGES)), ratings, names, None, pairs)
    data = RatingData(data.images, data.train, names, None, pairs, scale=RatingScale(-20, 20, 0))
    return Study(data, {}, None, FittedOn(), data, FittedOn(), np.arange(NUM_IMAGES))


def test_every_answer_is_held_out_once_with_all_that_is_nearly_the_same() -> None:
    study = make_study(2)
    groups = np.arange(NUM_IMAGES) // 3
    folds = make_folds(study.everything, groups, seed=0)
    held_out = torch.cat([fold.ratings for fold in folds])
    assert sorted(held_out.tolist()) == list(range(2 * NUM_IMAGES))
    for fold in folds:
        learned = set(groups[fold.data.train.images.numpy()])
        assert not learned & set(groups[study.everything.train.images[fold.ratings].numpy()])
    half = make_folds(study.everything, groups, seed=0, share=0.5)
    for fold, smaller in zip(folds, half):
        assert torch.equal(fold.ratings, smaller.ratings)
        assert len(smaller.data.train) == round(len(fold.data.train) / 2)


def test_a_choice_is_held_out_if_one_of_its_images_is_new() -> None:
    study = make_study(choices=True)
    for fold in make_folds(study.everything, study.groups, seed=0):
        assert fold.data.choices is not None
        learned = set(fold.data.choices.first.tolist()) | set(fold.data.choices.second.tolist())
        assert study.everything.choices is not None
        for row in fold.choices.tolist():
            pair = {int(study.everything.choices.first[row]), int(study.everything.choices.second[row])}
            assert not pair <= learned


def test_one_person_alone_is_measured_with_an_interval_over_images() -> None:
    study = make_study()
    results = cross_validate(study, NAMES)
    rows = {row.name: row for row in results.agreements[SPLIT]}
    assert set(rows) == {"taste_basis", "ridge_per_user"}  # of a mean there is nothing to measure
    mean, low, high = rows["taste_basis"].srocc
    assert 0.6 < low < mean < high < 1
    assert results.half is not None
    assert results.half < mean
    (of_person, of_more) = advice(results)
    assert of_person.startswith("p0: on images it was not shown, the reward orders them with a rank correlation of 0.")
    assert of_person.endswith("better than no taste at all, and worth training against.")
    assert "twice as many" in of_more


def test_who_answers_by_chance_is_told_not_to_train_on_it() -> None:
    study = make_study(chance=True)
    assert "worth training" not in advice(cross_validate(study, ["taste_basis"]))[0]


def test_choices_alone_are_measured_too() -> None:
    study = make_study(choices=True)
    results = cross_validate(study, ["taste_basis", "ridge_per_user"])
    assert not results.agreements
    for name in ("taste_basis", "ridge_per_user"):
        share, low, high = results.choices[name]
        assert 0.6 < low < share < high <= 1
    assert "of choices between images it was not shown, where chance is 50 %" in advice(results)[0]


def test_images_that_are_all_nearly_the_same_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match=r"all rated images are nearly the same.*--near_duplicates apart"):
        make_folds(make_study().everything, np.zeros(NUM_IMAGES, dtype=np.int64), seed=0)
