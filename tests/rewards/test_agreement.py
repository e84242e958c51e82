from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau, pearsonr, spearmanr

from pamela_rl.errors import DataError
from pamela_rl.rewards.agreement import (
    agreement,
    format_table,
    mismatched,
    noise_ceiling,
    pairwise_accuracy,
    plcc,
    srocc,
)

Array = NDArray[np.float64]


def predictions_and_ratings(seed: int, count: int = 40) -> tuple[Array, Array]:
    numbers = np.random.default_rng(seed)
    given = numbers.integers(1, 6, count).astype(np.float64)  # many ties, as in real ratings
    predicted = np.round(given + numbers.normal(0, 1.5, count), 0)
    return predicted, given


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed: int) -> None:
    predicted, given = predictions_and_ratings(seed)
    assert srocc(predicted, given) == pytest.approx(spearmanr(predicted, given).statistic, abs=1e-12)
    assert plcc(predicted, given) == pytest.approx(pearsonr(predicted, given).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_pairwise_accuracy_is_what_counting_every_pair_gives(seed: int) -> None:
    predicted, given = predictions_and_ratings(seed)
    points, pairs = 0.0, 0
    for i, j in itertools.combinations(range(len(given)), 2):
        if given[i] == given[j]:
            continue
        pairs += 1
        if predicted[i] == predicted[j]:
            points += 0.5
        elif (predicted[i] > predicted[j]) == (given[i] > given[j]):
            points += 1
    assert pairwise_accuracy(predicted, given) == pytest.approx(points / pairs, abs=1e-12)


def test_pairwise_accuracy_without_ties_is_kendalls_tau_on_another_scale() -> None:
    numbers = np.random.default_rng(1)
    given = numbers.normal(size=30)
    predicted = given + numbers.normal(size=30)
    assert pairwise_accuracy(predicted, given) == pytest.approx((kendalltau(predicted, given).statistic + 1) / 2)


def test_what_is_constant_has_no_correlation_and_no_pairs() -> None:
    rising, flat = np.arange(6.0), np.full(6, 3.0)
    assert np.isnan([srocc(flat, rising), plcc(rising, flat), pairwise_accuracy(rising, flat)]).all()
    assert pairwise_accuracy(flat, rising) == 0.5


def test_agreement_is_the_mean_over_people_worked_out_by_hand() -> None:
    users = np.repeat([4, 9], 5)
    given = np.array([1.0, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    predicted = np.array([10.0, 20, 30, 40, 50, 5, 4, 3, 2, 1])  # right for one, the wrong way round for the other
    result = agreement("mine", predicted, given, users)
    assert (result.name, result.num_users) == ("mine", 2)
    assert result.srocc == pytest.approx((0.0, -1.0, 1.0))
    assert result.pairwise == pytest.approx((0.5, 0.0, 1.0))


def test_people_with_few_or_equal_ratings_are_left_out_and_a_flat_prediction_counts_as_zero() -> None:
    users = np.array([0] * 5 + [1] * 4 + [2] * 5 + [3] * 5)
    given = np.array([1.0, 2, 3, 4, 5] + [1, 2, 3, 4] + [3] * 5 + [1, 2, 3, 4, 5])
    predicted = np.array([1.0, 2, 3, 4, 5] + [4, 3, 2, 1] + [1, 2, 3, 4, 5] + [7] * 5)
    result = agreement("mine", predicted, given, users)
    assert result.num_users == 2  # one has four ratings, one rated everything 3
    assert result.srocc[0] == pytest.approx(0.5)
    assert result.pairwise[0] == pytest.approx(0.75)
    assert agreement("mine", predicted, given, users, min_ratings=4).num_users == 3


def test_nobody_to_measure_gives_no_number_and_no_error() -> None:
    result = agreement("mine", np.arange(3.0), np.arange(3.0), np.zeros(3, dtype=np.int64))
    assert result.num_users == 0
    assert np.isnan(result.srocc).all()


def test_an_interval_holds_its_mean_and_narrows_with_people() -> None:
    widths = []
    for people in (20, 320):
        parts = [predictions_and_ratings(seed, 10) for seed in range(people)]
        predicted, given = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        mean, low, high = agreement("mine", predicted, given, np.repeat(np.arange(people), 10)).srocc
        assert low < mean < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.4)  # the square root of 16


def test_a_prediction_that_is_no_number_is_refused() -> None:
    predicted = np.array([1.0, np.nan, 3, np.inf, 5])
    with pytest.raises(DataError, match="2 of 5 predictions of 'mine' are not finite; look at the model"):
        agreement("mine", predicted, np.arange(5.0), np.zeros(5, dtype=np.int64))


@pytest.mark.parametrize("count", [2, 3, 50])
@pytest.mark.parametrize("seed", range(4))
def test_mismatched_gives_everyone_one_stranger_and_every_stranger_to_one(count: int, seed: int) -> None:
    names = np.random.default_rng(seed).choice(1000, count, replace=False)
    users = np.random.default_rng(seed).permutation(np.repeat(names, 3))
    strangers = mismatched(users, seed)
    assert (strangers != users).all()
    pairs = set(zip(users.tolist(), strangers.tolist()))
    assert len(pairs) == count
    assert {stranger for _, stranger in pairs} == set(names.tolist())


def test_mismatched_needs_two_people() -> None:
    with pytest.raises(DataError, match="at least two people; there is one"):
        mismatched(np.array([7, 7, 7]))


def test_no_model_beats_the_noise_ceiling_but_by_luck() -> None:
    numbers = np.random.default_rng(0)
    users = np.repeat(np.arange(100), 20)
    expected = numbers.normal(size=2000)
    given = np.rint(expected + 0.6 * numbers.normal(size=2000))
    ceiling = noise_ceiling(expected, given, users)
    model = agreement("model", expected + 0.5 * numbers.normal(size=2000), given, users)
    assert ceiling.name == "noise ceiling"
    assert model.srocc[2] < ceiling.srocc[1]


def test_the_table_has_a_line_a_model_with_its_figures() -> None:
    users, given = np.repeat([0, 1], 5), np.tile(np.arange(5.0), 2)
    lines = format_table([agreement("a", given, given, users), agreement("longer", -given, given, users)]).splitlines()
    assert len(lines) == 3
    assert "1.000 [1.000, 1.000]" in lines[1]
    assert "-1.000 [-1.000, -1.000]" in lines[2]
    assert lines[1].index("1.000") == lines[2].index("-1.000")
