from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from pamela_rl.agreement.measures import Array, plcc, srocc
from pamela_rl.agreement.per_user import Agreement, agreement, format_table, mismatched, noise_ceiling
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError


def predictions_and_ratings(seed: int, count: int = 40) -> tuple[Array, Array]:
    numbers = np.random.default_rng(seed)
    actual = numbers.integers(1, 6, count).astype(np.float64)
    return actual + numbers.normal(0, 1.5, count), actual


def test_agreement_is_the_mean_over_people_worked_out_by_hand() -> None:
    users = np.repeat([4, 9], 5)
    actual = np.array([1.0, 2, 3, 4, 5, 1, 2, 3, 4, 5])
    predicted = np.array([10.0, 20, 30, 40, 50, 5, 4, 3, 2, 1])  # right for one, the wrong way round for the other
    result = agreement("mine", predicted, actual, users)
    assert (result.name, result.num_users) == ("mine", 2)
    assert (result.srocc[0], result.pairwise[0]) == pytest.approx((0.0, 0.5))
    ends = ttest_1samp([27, 2.4], 0).confidence_interval(0.95)
    assert result.mae == pytest.approx(((27 + 2.4) / 2, *ends))


def test_of_one_user_the_interval_is_over_the_ratings() -> None:
    numbers = np.random.default_rng(0)
    actual = numbers.normal(size=60)
    predicted = actual + numbers.normal(size=60)
    few, many = (agreement("", predicted[:n], actual[:n], np.zeros(n, dtype=np.int64)).srocc for n in (15, 60))
    assert few[1] < few[0] < few[2]
    assert many[2] - many[1] < 0.7 * (few[2] - few[1])


def test_people_with_few_or_equal_ratings_are_left_out_and_a_flat_prediction_counts_as_zero() -> None:
    users = np.array([0] * 5 + [1] * 4 + [2] * 5 + [3] * 5)
    actual = np.array([1.0, 2, 3, 4, 5] + [1, 2, 3, 4] + [3] * 5 + [1, 2, 3, 4, 5])
    predicted = np.array([1.0, 2, 3, 4, 5] + [4, 3, 2, 1] + [1, 2, 3, 4, 5] + [7] * 5)
    result = agreement("mine", predicted, actual, users)
    assert result.num_users == 2  # one has four ratings, one rated everything 3
    assert result.srocc[0] == pytest.approx(0.5)
    assert result.pairwise[0] == pytest.approx(0.75)
    assert agreement("mine", predicted, actual, users, min_ratings=4).num_users == 3


def test_nobody_to_measure_gives_no_number_and_no_error() -> None:
    result = agreement("mine", np.arange(3.0), np.arange(3.0), np.zeros(3, dtype=np.int64))
    assert result.num_users == 0
    assert np.isnan(result.srocc).all()


def test_an_interval_holds_its_mean_and_narrows_with_people() -> None:
    widths = []
    for num_users in (20, 320):
        parts = [predictions_and_ratings(seed, 10) for seed in range(num_users)]
        predicted, actual = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        mean, low, high = agreement("mine", predicted, actual, np.repeat(np.arange(num_users), 10)).srocc
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
    actual = np.rint(expected + 0.6 * numbers.normal(size=2000))
    ceiling = noise_ceiling(expected, actual, users)
    model = agreement("model", expected + 0.5 * numbers.normal(size=2000), actual, users)
    assert ceiling.name == "noise ceiling"
    assert model.srocc[2] < ceiling.srocc[1]


def only_levels(num_users: int = 50, each: int = 30) -> tuple[Array, Array, Array]:
    """People who use the scale at very different levels, and a model that knows their levels and nothing else."""
    numbers = np.random.default_rng(0)
    users = np.repeat(np.arange(num_users), each)
    level = numbers.uniform(1.5, 4.5, num_users)[users]
    actual = np.clip(np.rint(level + 0.7 * numbers.normal(size=len(users))), 1, 5)
    return level + 0.1 * numbers.normal(size=len(users)), actual, users


def test_knowing_who_rates_high_is_no_agreement_with_anybody() -> None:
    predicted, actual, users = only_levels()
    assert srocc(predicted, actual) > 0.7  # all people pooled: what must never be reported
    assert plcc(predicted, actual) > 0.7
    result = agreement("levels", predicted, actual, users)
    assert abs(result.srocc[0]) < 0.08
    assert abs(result.plcc[0]) < 0.08
    assert result.pairwise[0] == pytest.approx(0.5, abs=0.04)


def test_a_person_counts_once_however_much_they_rated() -> None:
    keen, brief = np.arange(100.0) % 5, np.arange(5.0)
    users = np.repeat([0, 1], [100, 5])
    result = agreement("mine", np.concatenate([keen, -brief]), np.concatenate([keen, brief]), users)
    assert result.srocc[0] == pytest.approx(0)
    assert result.mae[0] == pytest.approx(4 / 2)


def test_errors_and_coverage_are_means_over_people_too() -> None:
    users = np.repeat([0, 1], [10, 30])
    actual = np.tile([1.0, 2, 3, 4, 5], 8)
    predicted = np.where(users == 0, actual, actual + 3)
    result = agreement("mine", predicted, actual, users, std=np.full(40, 0.1), scale=RatingScale())
    assert result.mae[0] == pytest.approx(1.5)  # 2.25 if pooled
    assert result.coverage is not None
    assert list(result.coverage) == ["50", "80", "95"]
    # mass of the first person's ratings lies around the middle; the second's are all but impossible, save for the
    # fifth of them that the upper end of the scale excuses
    assert result.coverage["95"][0] == pytest.approx((0.95 + 0.95 / 5) / 2, abs=0.001)


def test_there_is_no_coverage_without_a_std_and_none_without_a_scale() -> None:
    predicted, actual = predictions_and_ratings(0)
    users = np.zeros(40, dtype=np.int64)
    assert agreement("mine", predicted, actual, users).coverage is None
    with pytest.raises(DataError, match=r"there is a std of 'mine' but no scale; give the scale of the ratings"):
        agreement("mine", predicted, actual, users, std=np.ones(40))


def test_what_could_not_be_measured_is_null_in_json() -> None:
    nobody = agreement("x", np.arange(3.0), np.arange(3.0), np.zeros(3), std=np.ones(3), scale=RatingScale(0, 4))
    again = json.loads(json.dumps(nobody.to_json(), allow_nan=False))
    assert again == {
        "name": "x",
        "num_users": 0,
        **dict.fromkeys(("srocc", "plcc", "pairwise", "mae"), [None] * 3),
        "coverage": dict.fromkeys(("50", "80", "95"), [None] * 3),
    }


def rows_of_a_table() -> list[Agreement]:
    rows = []
    for name in ("personal", "a name so long that it tells of all its settings"):
        parts = [predictions_and_ratings(seed, 10) for seed in range(20)]
        predicted, actual = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        rows.append(
            agreement(name, predicted, actual, np.repeat(np.arange(20), 10), std=np.ones(200), scale=RatingScale())
        )
    return [*rows, agreement("upside down", 4 * actual - predicted * 5, actual, np.repeat(np.arange(20), 10))]


def test_the_table_has_a_line_a_model_and_fits_a_terminal() -> None:
    text = format_table(rows_of_a_table())
    heading, first, second, third = text.splitlines()
    assert heading.split() == ["people", "SROCC", "PLCC", "pairwise", "MAE", "within", "50/80/95", "%"]
    row = rows_of_a_table()[0]
    low, high = (f"{end:.2f}".removeprefix("0") for end in row.srocc[1:])
    assert first.startswith(f"personal                        20  {row.srocc[0]:.3f} [{low}, {high}]  ")
    assert second.startswith("a name so long that it te…")
    assert third.split()[3].startswith("-0.")
    assert third.split()[4].startswith("[-.")
    assert third.endswith("-")
    assert max(map(len, text.splitlines())) <= 120
    assert {line.index(line.split("  20  ")[1]) for line in (first, second, third)} == {heading.index("SROCC")}


def test_a_column_that_no_model_has_is_left_out() -> None:
    rows = [agreement("mine", np.arange(5.0), np.arange(5.0), np.zeros(5))]
    assert "within" not in format_table(rows)
    assert format_table([]).split() == ["people"]
