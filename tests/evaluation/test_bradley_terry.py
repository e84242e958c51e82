from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pamela_rl.evaluation.bradley_terry import elo, strengths

Array = NDArray[np.float64]
TRUE = np.array([0.5, 0.1, -0.6])  # mean 0


def referee(wins: Array, prior: float) -> Array:
    """The likelihood written out, pair by pair, and left to scipy."""
    count = len(wins)

    def loss(free: Array) -> float:
        s = np.append(free, 0.0)
        pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
        return float(sum((wins[i, j] + prior / 2) * np.log1p(np.exp(s[j] - s[i])) for i, j in pairs))

    found = np.append(minimize(loss, np.zeros(count - 1), method="BFGS", options={"gtol": 1e-7}).x, 0.0)
    return np.asarray(found - found.mean())


def choices(rng: np.random.Generator, people: int, prompts: int, each: int = 1) -> tuple[NDArray[np.int64], ...]:
    """Every person sees every pair of the three arms on every prompt; who wins is drawn from TRUE."""
    pairs = np.array([(0, 1), (0, 2), (1, 2)])
    grid = [(u, p, *pair) for u in range(people) for p in range(prompts) for pair in pairs for _ in range(each)]
    users, prompt, first, second = np.array(grid).T
    scores = (rng.random(len(grid)) < expit(TRUE[first] - TRUE[second])).astype(np.float64)
    return scores, first, second, users, prompt


def test_the_fit_is_the_one_that_scipy_finds() -> None:
    rng = np.random.default_rng(0)
    for prior in (1.0, 0.2):
        wins = rng.integers(0, 30, size=(5, 5)) / 2
        wins[3, 4] = wins[4, 3] = 0  # two that never met
        np.testing.assert_allclose(strengths(wins, prior), referee(wins, prior), atol=1e-5)


def test_many_tables_at_once_give_what_each_gives_alone() -> None:
    wins = np.random.default_rng(1).integers(0, 9, size=(6, 4, 4)).astype(np.float64)
    np.testing.assert_allclose(strengths(wins), np.stack([strengths(table) for table in wins]), atol=1e-9)


def test_two_arms_have_the_log_odds_with_half_a_win_more_on_each_side() -> None:
    for won, lost in ((7.0, 3.0), (20.0, 0.0), (5000.0, 0.0), (0.5, 0.5)):
        first, second = strengths(np.array([[0, won], [lost, 0]]))
        assert first - second == pytest.approx(np.log((won + 0.5) / (lost + 0.5)))
        assert first + second == pytest.approx(0)


def test_odds_of_ten_to_one_are_400_points_and_the_mean_is_1000() -> None:
    scores = np.array([1.0] * 10_000 + [0.0] * 1000)
    zeros = np.zeros(len(scores), dtype=np.int64)
    first, second = elo(scores, zeros, zeros + 1, zeros, np.arange(len(scores)) % 20, 2)
    assert first.estimate - second.estimate == pytest.approx(400, abs=0.2)
    assert first.estimate + second.estimate == pytest.approx(2000)


def test_ties_are_half_a_win_each_and_the_order_of_the_two_does_not_matter() -> None:
    first, second = np.array([0, 1, 0, 1]), np.array([1, 0, 1, 0])
    same = np.zeros(4, dtype=np.int64)
    ties = elo(np.full(4, 0.5), first, second, same, same, 2)
    swapped = elo(np.array([1.0, 1.0, 0.0, 0.0]), first, second, same, same, 2)
    assert [arm.estimate for arm in ties] == pytest.approx([1000, 1000])
    assert [arm.estimate for arm in swapped] == pytest.approx([1000, 1000])


def test_known_strengths_are_recovered() -> None:
    found = elo(*choices(np.random.default_rng(2), people=8, prompts=50, each=10), 3)
    np.testing.assert_allclose([arm.estimate for arm in found], 1000 + 400 / np.log(10) * TRUE, atol=12)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    truth = 1000 + 400 / np.log(10) * TRUE
    held, wide = [], []
    for _ in range(40):
        found = elo(*choices(rng, people=10, prompts=8), 3)
        held += [arm.low <= value <= arm.high for arm, value in zip(found, truth)]
        wide += [arm.high - arm.low for arm in found]
    assert 0.9 <= np.mean(held) <= 0.995
    assert np.std(wide) > 0


def test_people_who_disagree_widen_the_interval_more_than_as_many_who_agree() -> None:
    prompts = np.tile(np.arange(20), 10)
    users = np.repeat(np.arange(10), 20)
    zeros = np.zeros(200, dtype=np.int64)
    split, alike = (users % 2).astype(np.float64), (prompts % 2).astype(np.float64)
    apart, together = (elo(scores, zeros, zeros + 1, users, prompts, 2)[0] for scores in (split, alike))
    assert apart.high - apart.low > 2 * (together.high - together.low)


def test_one_person_has_an_interval_from_prompts_alone() -> None:
    scores = np.array([1.0, 0.0] * 10)
    zeros = np.zeros(20, dtype=np.int64)
    one_prompt = elo(scores, zeros, zeros + 1, zeros, zeros, 2)[0]
    many = elo(scores, zeros, zeros + 1, zeros, np.arange(20), 2)[0]
    assert one_prompt.low == pytest.approx(one_prompt.high)
    assert many.low < 1000 < many.high
