from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pamela_rl.evaluation.bradley_terry import elo, fit
from pamela_rl.intervals import Interval

Array = NDArray[np.float64]
TRUE = np.array([0.5, 0.1, -0.6])  # mean 0


def referee(wins: Array) -> Array:
    """The likelihood with Jeffreys' prior written out, and left to scipy."""
    count = len(wins)
    games = wins + wins.T

    def loss(free: Array) -> float:
        s = np.append(free, 0.0)
        p = expit(s[:, None] - s)
        weight = games * p * (1 - p)
        information = (np.diag(weight.sum(axis=1)) - weight)[:-1, :-1]
        likelihood = sum(wins[i, j] * np.log(p[i, j]) for i in range(count) for j in range(count) if i != j)
        return float(-likelihood - 0.5 * np.linalg.slogdet(information)[1])

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
    wins = np.random.default_rng(0).integers(0, 30, size=(5, 5)) / 2
    np.fill_diagonal(wins, 0)
    wins[3, 4] = wins[4, 3] = 0  # two that never met
    np.testing.assert_allclose(fit(wins)[0], referee(wins), atol=1e-4)


def test_two_arms_have_the_log_odds_with_half_a_win_more_on_each_side() -> None:
    for won, lost in ((7.0, 3.0), (20.0, 0.0), (5000.0, 0.0), (0.5, 0.5)):
        first, second = fit(np.array([[0, won], [lost, 0]]))[0]
        assert first - second == pytest.approx(np.log((won + 0.5) / (lost + 0.5)), abs=1e-5)
        assert first + second == pytest.approx(0)


def test_arms_that_never_met_are_equal_and_have_no_interval() -> None:
    scores, zeros = np.array([1.0, 0, 1, 1]), np.zeros(4, dtype=np.int64)
    found = elo(scores, zeros, zeros + 1, zeros, np.arange(4), 3)
    assert found[2].estimate == pytest.approx(1000)
    assert found[2].low is None


@pytest.mark.parametrize("per_pair", [2, 20])
def test_the_spread_of_eight_arms_is_not_shrunk_with_few_choices_nor_with_many(per_pair: int) -> None:
    rng = np.random.default_rng(4)
    truth = np.linspace(-1.5, 1.5, 8)  # 521 Elo from the first to the last
    spreads = []
    for _ in range(100):
        wins = np.triu(rng.binomial(per_pair, expit(truth[:, None] - truth)).astype(np.float64), 1)
        wins += np.tril(per_pair - wins.T, -1)
        found = fit(wins)[0]
        spreads.append(found[-1] - found[0])
    assert np.mean(spreads) == pytest.approx(3.0, rel=0.1)


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
    held = []
    for _ in range(40):
        found = elo(*choices(rng, people=10, prompts=8), 3)
        held += [abs(value - arm.estimate) <= width(arm) / 2 for arm, value in zip(found, truth)]
    assert 0.93 <= np.mean(held) <= 0.99


def test_people_or_prompts_that_differ_widen_the_interval() -> None:
    prompts = np.tile(np.arange(20), 10)
    users = np.repeat(np.arange(10), 20)
    zeros = np.zeros(200, dtype=np.int64)
    by_chance = np.random.default_rng(0).permutation(np.arange(200) % 2)
    votes = {"users": users % 2, "prompts": prompts % 2, "chance": by_chance}
    widths = {
        name: width(elo(v.astype(np.float64), zeros, zeros + 1, users, prompts, 2)[0]) for name, v in votes.items()
    }
    assert widths["users"] > 2.5 * widths["chance"]
    assert widths["prompts"] > 1.5 * widths["chance"]


def test_one_person_has_an_interval_over_prompts_and_with_one_prompt_none() -> None:
    scores = np.array([1.0, 0.0] * 10)
    zeros = np.zeros(20, dtype=np.int64)
    many = elo(scores, zeros, zeros + 1, zeros, np.arange(20), 2)[0]
    assert elo(scores, zeros, zeros + 1, zeros, zeros, 2)[0].low is None
    assert many.low is not None
    assert many.low < 1000


def test_an_arm_that_always_won_keeps_a_wide_interval() -> None:
    zeros = np.zeros(20, dtype=np.int64)
    always = elo(np.ones(20), zeros, zeros + 1, zeros, np.arange(20), 2)[0]
    assert width(always) > 400


def width(interval: Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low
