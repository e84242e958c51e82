from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from pamela_rl.intervals import Interval, mean_interval, share_interval

Array = NDArray[np.float64]


def ends(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def grid(users: int, prompts: int, seeds: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(users).repeat(prompts * seeds), np.tile(np.arange(prompts).repeat(seeds), users)


def test_few_people_have_the_interval_of_scipys_t_test() -> None:
    values = np.array([0.2, 0.9, 0.4, 1.3])
    theirs = ttest_1samp(values, 0).confidence_interval(0.95)
    assert ends(mean_interval(values)) == pytest.approx((theirs.low, theirs.high))


def test_a_complete_table_has_the_variance_and_the_degrees_of_freedom_of_the_analysis_of_variance() -> None:
    numbers = np.random.default_rng(0)
    i, j = 5, 7
    cells = numbers.normal(0, 1, (i, 1)) + numbers.normal(0, 1, (1, j)) + numbers.normal(0, 0.5, (i, j))
    rows, columns = cells.mean(axis=1), cells.mean(axis=0)
    ms_user, ms_prompt = j * rows.var(ddof=1), i * columns.var(ddof=1)
    ms_both = ((cells - rows[:, None] - columns + cells.mean()) ** 2).sum() / ((i - 1) * (j - 1))
    total = ms_user + ms_prompt - ms_both
    degrees = total**2 / (ms_user**2 / (i - 1) + ms_prompt**2 / (j - 1) + ms_both**2 / ((i - 1) * (j - 1)))
    margin = student_t.ppf(0.975, degrees) * (total / (i * j)) ** 0.5
    assert min(ms_user, ms_prompt) > ms_both
    found = mean_interval(cells.repeat(2, axis=1).ravel(), *grid(i, j, 2))
    assert found.estimate == pytest.approx(cells.mean())
    assert ends(found) == pytest.approx((cells.mean() - margin, cells.mean() + margin))


def test_one_person_has_an_interval_over_prompts_and_one_prompt_an_interval_over_people() -> None:
    values = np.random.default_rng(0).normal(size=12)
    prompts = np.arange(6).repeat(2)
    theirs = ttest_1samp(values.reshape(6, 2).mean(axis=1), 0).confidence_interval(0.95)
    one = np.zeros(12, dtype=np.int64)
    assert ends(mean_interval(values, one, prompts)) == pytest.approx((theirs.low, theirs.high))
    assert ends(mean_interval(values, prompts, one)) == pytest.approx((theirs.low, theirs.high))


def test_people_with_prompts_of_their_own_have_the_interval_over_people() -> None:
    values = np.random.default_rng(0).normal(size=12)
    users = np.arange(4).repeat(3)
    theirs = ttest_1samp(values.reshape(4, 3).mean(axis=1), 0).confidence_interval(0.95)
    assert ends(mean_interval(values, users, np.arange(12))) == pytest.approx((theirs.low, theirs.high))


def test_over_one_person_and_one_prompt_there_is_no_interval_and_without_values_no_estimate() -> None:
    same = np.zeros(3, dtype=np.int64)
    assert mean_interval(np.array([1.0, 2, 3]), same, same) == Interval(2.0, None, None)
    assert mean_interval(np.array([1.5])) == Interval(1.5, None, None)
    empty = mean_interval(np.array([]))
    assert np.isnan(empty.estimate)
    assert empty.low is None


def test_people_weigh_alike_however_many_images_they_have() -> None:
    users, prompts = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
    assert mean_interval(np.array([1.0, 1, 4, 10]), users, prompts).estimate == pytest.approx((2 + 10) / 2)


def test_copies_of_an_image_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    users, prompts = grid(3, 10, 1)
    thrice = mean_interval(values.repeat(3), users.repeat(3), prompts.repeat(3))
    assert ends(thrice) == pytest.approx(ends(mean_interval(values, users, prompts)))


def test_names_serve_as_well_as_numbers_and_the_order_of_rows_does_not_matter() -> None:
    values = np.random.default_rng(0).normal(size=30)
    users, prompts = grid(3, 10, 1)
    order = np.random.default_rng(1).permutation(30)
    named = np.array(["ben", "ada", "eve"])[users]
    shuffled = mean_interval(values[order], named[order], prompts[order])
    assert ends(shuffled) == pytest.approx(ends(mean_interval(values, users, prompts)))


def test_a_few_missing_images_change_the_interval_little() -> None:
    numbers = np.random.default_rng(0)
    users, prompts = grid(8, 16, 1)
    values = numbers.normal(size=8)[users] + numbers.normal(size=16)[prompts] + numbers.normal(size=128)
    kept = numbers.random(128) > 0.05
    low, high = ends(mean_interval(values, users, prompts))
    assert ends(mean_interval(values[kept], users[kept], prompts[kept])) == pytest.approx((low, high), abs=0.15)


@pytest.mark.parametrize("spread", [(1, 0.3, 0.3), (0.3, 1, 0.3), (0.3, 0.3, 1)], ids=["people", "prompts", "both"])
@pytest.mark.parametrize("complete", [True, False])
def test_the_interval_holds_the_truth_as_often_as_it_says(spread: tuple[float, ...], complete: bool) -> None:
    numbers = np.random.default_rng(0)
    users, prompts = grid(4, 16, 1)
    held = []
    for _ in range(600):
        person, prompt, both = spread
        values = person * numbers.normal(size=4)[users] + prompt * numbers.normal(size=16)[prompts]
        values += both * numbers.normal(size=64)
        kept = np.full(64, True) if complete else numbers.random(64) > 0.3
        low, high = ends(mean_interval(values[kept], users[kept], prompts[kept]))
        held.append(low <= 0 <= high)
    assert 0.925 <= np.mean(held) <= 0.975


def test_a_constant_has_an_interval_of_no_width() -> None:
    users, prompts = grid(2, 2, 1)
    assert mean_interval(np.full(4, 2.5), users, prompts) == Interval(2.5, 2.5, 2.5)


def test_a_share_stays_a_share_and_has_no_interval_where_all_won() -> None:
    users, prompts = grid(3, 4, 1)
    won = np.ones(12)
    assert share_interval(won, users, prompts) == Interval(1.0, None, None)
    won[5] = 0
    low, high = ends(share_interval(won, users, prompts))
    assert low < 11 / 12 < high == 1.0
