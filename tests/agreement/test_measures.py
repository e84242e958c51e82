from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap as scipys_bootstrap
from scipy.stats import kendalltau, pearsonr, spearmanr, ttest_1samp

from pamela_rl.agreement.measures import (
    Array,
    bootstrap,
    mae,
    mean_with_interval,
    pairwise_accuracy,
    plcc,
    rows_by_group,
    srocc,
)


def predictions_and_ratings(seed: int, count: int = 40) -> tuple[Array, Array]:
    numbers = np.random.default_rng(seed)
    actual = numbers.integers(1, 6, count).astype(np.float64)  # many ties, as in real ratings
    predicted = np.round(actual + numbers.normal(0, 1.5, count), 0)
    return predicted, actual


def counted_one_by_one(predicted: Array, actual: Array) -> float:
    points, pairs = 0.0, 0
    for i, j in itertools.combinations(range(len(actual)), 2):
        if actual[i] == actual[j]:
            continue
        pairs += 1
        if predicted[i] == predicted[j]:
            points += 0.5
        elif (predicted[i] > predicted[j]) == (actual[i] > actual[j]):
            points += 1
    return points / pairs


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed: int) -> None:
    predicted, actual = predictions_and_ratings(seed)
    assert srocc(predicted, actual) == pytest.approx(spearmanr(predicted, actual).statistic, abs=1e-12)
    assert plcc(predicted, actual) == pytest.approx(pearsonr(predicted, actual).statistic, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 5, 40, 200])
@pytest.mark.parametrize("seed", range(5))
def test_pairwise_accuracy_is_what_counting_every_pair_gives(seed: int, count: int) -> None:
    predicted, actual = predictions_and_ratings(seed, count)
    if np.ptp(actual) > 0:
        assert pairwise_accuracy(predicted, actual) == pytest.approx(counted_one_by_one(predicted, actual), abs=1e-12)


def test_pairwise_accuracy_without_ties_is_kendalls_tau_on_another_scale() -> None:
    numbers = np.random.default_rng(1)
    actual = numbers.normal(size=30)
    predicted = actual + numbers.normal(size=30)
    assert pairwise_accuracy(predicted, actual) == pytest.approx((kendalltau(predicted, actual).statistic + 1) / 2)


def test_pairwise_accuracy_counts_billions_of_pairs() -> None:
    actual = np.arange(100_000.0)  # five billion pairs: as a list of pairs, eighty gigabytes
    swapped = actual.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert pairwise_accuracy(swapped, actual) == 1 - 1 / (100_000 * 99_999 / 2)


def test_what_is_constant_has_no_correlation_and_no_pairs() -> None:
    rising, flat = np.arange(6.0), np.full(6, 3.0)
    assert np.isnan([srocc(flat, rising), plcc(rising, flat), pairwise_accuracy(rising, flat)]).all()
    assert pairwise_accuracy(flat, rising) == 0.5


def test_the_mean_absolute_error_is_in_rating_points() -> None:
    assert mae(np.array([1.0, 4, 2.5]), np.array([3.0, 4, 2])) == pytest.approx(2.5 / 3)


def test_places_are_found_by_label() -> None:
    places = rows_by_group(np.array(["b", "a", "b", "c", "a"]))
    assert [place.tolist() for place in places] == [[1, 4], [0, 2], [3]]
    assert rows_by_group(np.array([])) == []


def test_intervals_are_scipys() -> None:
    values = np.random.default_rng(0).exponential(size=80)
    theirs = scipys_bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    mine = bootstrap(lambda rows: float(values[rows].mean()), 80, 0)
    assert mine[0] == pytest.approx(values.mean())
    assert mine[1:] == pytest.approx((theirs.low, theirs.high), abs=0.02)
    mean, *ends = mean_with_interval(values)
    assert mean == pytest.approx(values.mean())
    assert ends == pytest.approx(ttest_1samp(values, 0).confidence_interval(0.95))


def test_one_user_alone_has_no_interval_over_users() -> None:
    mean, *ends = mean_with_interval(np.array([0.5]))
    assert mean == 0.5
    assert np.isnan(ends).all()


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    held_out = []
    for seed in range(40):
        numbers = np.random.default_rng(seed)
        quality = numbers.normal(size=60)
        means = 0.6 * quality + 0.8 * numbers.normal(size=60)
        _, low, high = bootstrap(lambda rows, q=quality, m=means: plcc(q[rows], m[rows]), 60, seed, 200)
        held_out.append(low < 0.6 < high)
    assert 0.85 <= np.mean(held_out) <= 1


def test_nothing_has_no_mean_and_draws_without_a_value_are_left_out() -> None:
    assert np.isnan(mean_with_interval(np.array([]))).all()
    assert np.isnan(bootstrap(lambda rows: 1.0, 0, 0)).all()
    often_nan = bootstrap(lambda rows: float("nan") if (rows == 0).all() else float(rows.mean()), 2, 0)
    assert often_nan[0] == 0.5
    assert np.isfinite(often_nan).all()
