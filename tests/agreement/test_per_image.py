from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from pamela_rl.agreement.measures import Array
from pamela_rl.agreement.per_image import format_population_table, population_agreement
from pamela_rl.agreement.per_user import agreement
from pamela_rl.errors import DataError

PEOPLE, PICTURES = 12, 40
FEW = 100  # draws of the bootstrap, to save time


def everybody_rates_everything() -> tuple[Array, Array, Array, Array]:
    """Qualities of pictures ``(n,)`` as a model's predictions, ratings, raters and pictures."""
    numbers = np.random.default_rng(0)
    users, images = (index.ravel() for index in np.indices((PEOPLE, PICTURES)))
    quality = numbers.normal(size=PICTURES)[images]
    return quality, quality + numbers.normal(size=PEOPLE * PICTURES), users, images


def test_agreement_is_of_the_pictures_means() -> None:
    predicted, actual, users, images = everybody_rates_everything()
    result = population_agreement("mine", predicted, actual, users, images, num_draws=FEW)
    means = actual.reshape(PEOPLE, PICTURES).mean(axis=0)
    assert result.num_images == PICTURES
    assert result.srocc[0] == pytest.approx(spearmanr(predicted[:PICTURES], means).statistic)
    assert result.plcc[0] == pytest.approx(pearsonr(predicted[:PICTURES], means).statistic)
    assert result.mae[0] == pytest.approx(np.abs(predicted[:PICTURES] - means).mean())
    for estimate, low, high in (result.srocc, result.plcc, result.pairwise, result.mae):
        assert low < estimate < high
    assert result.plcc[0] > agreement("mine", predicted, actual, users).plcc[0] + 0.2  # never one for the other


def test_predictions_for_persons_are_averaged_over_those_who_rated() -> None:
    _, actual, users, images = everybody_rates_everything()
    some = np.random.default_rng(1).random(len(actual)) < 0.6
    of_each = actual[some] + 0.3 * users[some]  # knows each rating, and adds what differs from rater to rater
    result = population_agreement("mine", of_each, actual[some], users[some], images[some], min_raters=1, num_draws=FEW)
    raters = [users[some][images[some] == image] for image in range(PICTURES)]
    assert result.mae[0] == pytest.approx(np.mean([0.3 * of.mean() for of in raters]))


def test_a_person_counts_once_a_picture_however_often_they_rated_it() -> None:
    actual = np.array([1.0] * 9 + [5.0] + [2.0, 2.0])
    users = np.array([0] * 9 + [1] + [0, 1])
    images = np.array(["x"] * 10 + ["y"] * 2)
    result = population_agreement(
        "mine", np.array([3.0] * 10 + [2.0] * 2), actual, users, images, min_raters=2, num_draws=FEW
    )
    assert result.mae[0] == 0
    assert population_agreement("mine", actual, actual, users, images, min_raters=3, num_draws=FEW).num_images == 0


def test_pictures_with_few_raters_are_left_out() -> None:
    predicted, actual, users, images = everybody_rates_everything()
    kept = (images < 10) | (users < 4)
    result = population_agreement(
        "mine", *(column[kept] for column in (predicted, actual, users, images)), num_draws=FEW
    )
    assert result.num_images == 10


def test_a_flat_prediction_has_no_correlation_and_flat_ratings_no_score() -> None:
    _, actual, users, images = everybody_rates_everything()
    flat = population_agreement("flat", np.full(len(actual), 3.0), actual, users, images, num_draws=FEW)
    assert flat.srocc == flat.plcc == (0, 0, 0)
    assert flat.pairwise == (0.5, 0.5, 0.5)
    alike = population_agreement("mine", actual, np.full(len(actual), 3.0), users, images, num_draws=FEW).to_json()
    assert json.loads(json.dumps(alike, allow_nan=False))["srocc"] == [None] * 3


def test_predictions_that_are_no_numbers_are_refused() -> None:
    _, actual, users, images = everybody_rates_everything()
    with pytest.raises(DataError, match="480 of 480 predictions of 'mine' are not finite"):
        population_agreement("mine", np.full(len(actual), np.nan), actual, users, images, num_draws=FEW)


def test_the_table_counts_pictures_and_fits_a_terminal() -> None:
    predicted, actual, users, images = everybody_rates_everything()
    rows = [
        population_agreement(name, predicted, actual, users, images, num_draws=FEW)
        for name in ("mine", "its long name " * 5)
    ]
    lines = format_population_table(rows).splitlines()
    assert lines[0].split() == ["pictures", "SROCC", "PLCC", "pairwise", "MAE"]
    assert lines[1].split()[:2] == ["mine", "40"]
    assert max(map(len, lines)) <= 120
