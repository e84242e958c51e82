from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pamela_rl.agreement.calibration import LEVELS, coverage, pit, pit_histogram
from pamela_rl.agreement.measures import Array
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError

STARS, SLIDER = RatingScale(1, 5), RatingScale(0, 1)
COUNT = 40_000


def simulated(scale: RatingScale, std: float) -> tuple[Array, Array]:
    """Expectations all over the scale, and ratings that come of them exactly as the model says."""
    numbers = np.random.default_rng(0)
    expected = numbers.uniform(scale.low, scale.high, COUNT)
    wanted = expected + std * numbers.normal(size=COUNT)
    if scale.resolution:
        wanted = scale.low + scale.resolution * np.rint((wanted - scale.low) / scale.resolution)
    return expected, np.clip(wanted, scale.low, scale.high)


EVERY_SCALE = pytest.mark.parametrize(
    ("scale", "std"),
    [
        (STARS, 0.15),  # finer than a star: nearly all that is predicted falls on one
        (STARS, 0.7),
        (STARS, 3.0),  # coarser than the scale: half the ratings are 1 or 5
        (RatingScale(0, 10, step=2.5), 1.5),
        (RatingScale(0, 10, step=3), 1.5),  # 9 is the highest that can be given
        (SLIDER, 0.05),
        (SLIDER, 0.5),  # four in ten ratings are heaped on the ends
    ],
)


@EVERY_SCALE
def test_ratings_that_come_as_predicted_are_covered_as_often_as_promised(scale: RatingScale, std: float) -> None:
    expected, actual = simulated(scale, std)
    if scale.resolution == 3:
        actual = np.minimum(actual, 9)
    covered = coverage(expected, np.full(COUNT, std), actual, scale).mean(axis=0)
    np.testing.assert_allclose(covered, LEVELS, atol=3 * 0.5 / COUNT**0.5)
    assert (covered != LEVELS).all()


@EVERY_SCALE
def test_a_model_too_sure_covers_too_little_and_one_not_sure_enough_too_much(scale: RatingScale, std: float) -> None:
    expected, actual = simulated(scale, std)
    sure = coverage(expected, np.full(COUNT, 0.4 * std), actual, scale).mean(axis=0)
    unsure = coverage(expected, np.full(COUNT, 2.5 * std), actual, scale).mean(axis=0)
    if std == 0.15:  # the stars hide what happens between them
        assert sure[1] < LEVELS[1] < unsure[1]
    else:
        assert (sure < np.array(LEVELS) - 0.03).all()
        assert (unsure > np.array(LEVELS) + 0.01).all()


def test_the_interval_of_a_rating_ends_half_way_to_its_neighbours_and_nowhere_at_the_ends() -> None:
    actual, expected, std = np.array([1.0, 2, 5]), np.array([1.5, 2.5, 2.5]), np.array([0.5, 1, 2])
    low, high = pit(expected, std, actual, STARS)
    np.testing.assert_allclose(low, [0, norm.cdf(-1), norm.cdf(1)])
    np.testing.assert_allclose(high, [0.5, 0.5, 1])
    low, high = pit(np.full(3, 0.5), np.full(3, 0.5), np.array([0, 0.6, 1]), SLIDER)
    np.testing.assert_allclose(low, [0, norm.cdf(0.2), norm.cdf(1)])
    np.testing.assert_allclose(high, [norm.cdf(-1), norm.cdf(0.2), 1])


def test_coverage_worked_out_by_hand() -> None:
    # the 3 reaches from the quantile norm.cdf(-.5) = .3085 to .6915, and the middle half from .25 to .75 holds it
    three = coverage(np.array([3.0]), np.array([1.0]), np.array([3.0]), STARS, (0.5, 0.2))
    np.testing.assert_allclose(three, [[1, 0.2 / (norm.cdf(0.5) - norm.cdf(-0.5))]])


@EVERY_SCALE
def test_the_histogram_is_what_drawing_within_each_interval_gives(scale: RatingScale, std: float) -> None:
    expected, actual = simulated(scale, std)
    spread = np.full(COUNT, 1.7 * std)  # wrong on purpose: a hill
    low, high = pit(expected, spread, actual, scale)
    drawn = low + np.random.default_rng(1).random((20, COUNT)) * (high - low)
    theirs = np.histogram(drawn, bins=8, range=(0, 1))[0] / drawn.size
    mine = pit_histogram(expected, spread, actual, scale, num_bins=8)
    np.testing.assert_allclose(mine, theirs, atol=0.002)
    assert mine.sum() == pytest.approx(1)


@EVERY_SCALE
def test_the_histogram_of_a_right_model_is_flat(scale: RatingScale, std: float) -> None:
    expected, actual = simulated(scale, std)
    if scale.resolution == 3:
        actual = np.minimum(actual, 9)
    np.testing.assert_allclose(pit_histogram(expected, np.full(COUNT, std), actual, scale), 0.1, atol=0.006)


def test_the_impossible_is_not_covered_and_stays_in_the_histogram() -> None:
    expected, std = np.array([1.0, 5.0]), np.full(2, 1e-3)
    actual = np.array([5.0, 1.0])
    assert (coverage(expected, std, actual, STARS) == 0).all()
    np.testing.assert_allclose(pit_histogram(expected, std, actual, STARS, 4), [0.5, 0, 0, 0.5])


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_std_that_is_no_positive_number_is_refused(wrong: float) -> None:
    with pytest.raises(DataError, match=r"2 of 3 predictive stds are not positive numbers, the first is .*; give the"):
        coverage(np.ones(3), np.array([wrong, 1, wrong]), np.ones(3), STARS)
