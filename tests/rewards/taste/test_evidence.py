from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, optimize, stats
from torch import Tensor

from pamela_rl.rewards.preference import ChoiceTensors, RatingTensors
from pamela_rl.rewards.taste.evidence import (
    LOGISTIC,
    PaddedResponses,
    TastePosteriors,
    infer_tastes,
    pad_responses,
    select_users,
    tighten_bound,
)

PICTURES, WIDTH = 6, 3


def slider_ratings() -> RatingTensors:
    """Five people, of whom rows 1 and 3 say nothing; some rate a picture up to four times, on a slider."""
    numbers = np.random.default_rng(4)
    users = np.array([0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 4])
    images = np.array([5, 1, 5, 0, 3, 3, 3, 4, 3, 2, 0])
    order = numbers.permutation(len(users))
    ratings = torch.from_numpy(numbers.random(len(users)))
    return RatingTensors(torch.from_numpy(users[order]), torch.from_numpy(images[order]), ratings)


def some_choices() -> ChoiceTensors:
    users, first, second = torch.tensor([3, 0, 3]), torch.tensor([2, 0, 5]), torch.tensor([4, 3, 1])
    return ChoiceTensors(users, first, second, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))


def test_repeats_become_their_mean_their_count_and_how_they_spread() -> None:
    ratings = slider_ratings()
    answers = pad_responses(ratings)
    table = pd.DataFrame({"u": ratings.users, "i": ratings.images, "r": ratings.ratings})
    assert answers.user_rows.tolist() == [0, 2, 4]  # who said nothing is left out
    for row, user in enumerate(answers.user_rows.tolist()):
        mine = table[table["u"] == user].groupby("i")["r"].agg(["mean", "size", "var"]).fillna(0)
        known = answers.counts[row] > 0
        assert answers.first[row, known].tolist() == mine.index.tolist()
        np.testing.assert_allclose(answers.values[row, known], mine["mean"], rtol=1e-12)  # no slider is rounded
        assert answers.counts[row, known].tolist() == mine["size"].tolist()
        assert float(answers.sum_of_squares[row]) == pytest.approx((mine["var"] * (mine["size"] - 1)).sum(), abs=1e-12)
        assert float(answers.degrees_of_freedom[row]) == (mine["size"] - 1).sum()
        assert not answers.counts[row, ~known].any()
    assert answers.counts.shape == (3, 4)
    assert answers.has_repeats
    assert not answers.is_choice.any()
    assert not pad_responses(ratings[torch.tensor([0, 1])]).has_repeats


def test_choices_stand_beside_ratings() -> None:
    answers = pad_responses(slider_ratings(), some_choices())
    assert answers.user_rows.tolist() == [0, 2, 3, 4]
    assert answers.is_choice.sum(dim=1).tolist() == [1, 0, 2, 0]
    both = answers.is_choice[0]
    assert (answers.first[0, both].tolist(), answers.second[0, both].tolist()) == ([0], [3])
    assert answers.values[answers.is_choice].tolist() == [0.0, 0.5, -0.5]
    assert answers.first[2, :2].tolist() == [2, 5]
    assert answers.second[2, :2].tolist() == [4, 1]
    assert answers.counts[answers.is_choice].tolist() == [1.0, 1.0, 1.0]
    alone = pad_responses(slider_ratings())
    assert torch.equal(answers.sum_of_squares[[0, 1, 3]], alone.sum_of_squares)  # a choice is no repeat
    assert torch.equal(answers.degrees_of_freedom[[0, 1, 3]], alone.degrees_of_freedom)
    torch.testing.assert_close(answers.values[1], alone.values[1])


def test_choices_need_no_ratings() -> None:
    answers = pad_responses(None, some_choices())
    assert answers.user_rows.tolist() == [0, 3]
    assert bool(answers.is_choice[1].all())
    none = RatingTensors(*(torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros(0, dtype=torch.float64))
    again = pad_responses(none, some_choices())
    assert torch.equal(again.values, answers.values)
    assert torch.equal(again.second, answers.second)


def parameters(seed: int) -> tuple[Tensor, ...]:
    """Shared scores, design, prior means of everybody, root of the prior covariance, noise of everybody, misfit."""
    torch.manual_seed(seed)
    shared = torch.randn(PICTURES, dtype=torch.float64)
    design = torch.cat([torch.ones(PICTURES, 1), torch.randn(PICTURES, WIDTH - 1)], dim=1).double()
    root = torch.randn(WIDTH, WIDTH, dtype=torch.float64)
    return shared, design, torch.randn(5, WIDTH).double(), root, 0.2 + torch.rand(5).double(), torch.rand(()).double()


def solved(answers: PaddedResponses, given: tuple[Tensor, ...]) -> TastePosteriors:
    shared, design, means, root, noise, misfit = given
    return infer_tastes(answers, shared, design, means[answers.user_rows], root, noise[answers.user_rows], misfit)


def dense(ratings: RatingTensors, user: int, given: tuple[Tensor, ...]) -> tuple[float, NDArray, NDArray]:  # type: ignore[type-arg]
    """Log evidence and posterior of one person's ratings, each repeat a row of its own."""
    shared, design, means, root, noise, misfit = (part.numpy() for part in given)
    images = ratings.images[ratings.users == user].numpy()
    given_ratings = ratings.ratings[ratings.users == user].numpy()
    x, prior = design[images], root @ root.T
    spread = misfit * (images[:, None] == images) + noise[user] * np.eye(len(images))
    centre = shared[images] + x @ means[user]
    evidence = stats.multivariate_normal(centre, x @ prior @ x.T + spread).logpdf(given_ratings)
    precision = np.linalg.inv(prior) + x.T @ np.linalg.solve(spread, x)
    covariance = np.linalg.inv(precision)
    mean = means[user] + covariance @ x.T @ np.linalg.solve(spread, given_ratings - centre)
    return float(evidence), mean, covariance


def test_evidence_and_posterior_are_those_of_the_dense_normal_of_all_repeats() -> None:
    ratings, settings = slider_ratings(), [parameters(seed) for seed in (1, 2, 3)]
    answers = pad_responses(ratings)
    found = [solved(answers, given) for given in settings]
    for row, user in enumerate(answers.user_rows.tolist()):
        expected = [dense(ratings, user, given) for given in settings]
        for solution, (_, mean, covariance) in zip(found, expected, strict=True):
            np.testing.assert_allclose(solution.means[row], mean, rtol=1e-9)
            np.testing.assert_allclose(solution.covariances[row], covariance, rtol=1e-9, atol=1e-12)
        for other in (1, 2):  # the constant falls out of differences
            change = found[other].negative_log_evidence[row] - found[0].negative_log_evidence[row]
            assert float(change) == pytest.approx(expected[0][0] - expected[other][0], rel=1e-9)


@pytest.mark.parametrize("with_choices", [False, True])
def test_the_gradient_is_that_of_the_evidence(with_choices: bool) -> None:
    answers = pad_responses(slider_ratings(), some_choices() if with_choices else None)
    given = [part.clone().requires_grad_() for part in parameters(1)]
    if with_choices:  # how consistent choices are is not to teach the noise
        given[4].requires_grad_(False)
        given[5].requires_grad_(False)
    assert torch.autograd.gradcheck(lambda *parts: solved(answers, parts).negative_log_evidence, given)


def test_choices_teach_nothing_of_the_noise() -> None:
    given = [part.clone().requires_grad_() for part in parameters(1)]
    solved(pad_responses(None, some_choices()), tuple(given)).negative_log_evidence.sum().backward()
    assert given[4].grad is None or not given[4].grad.any()
    assert given[5].grad is None or not given[5].grad.any()
    assert given[1].grad is not None
    assert given[1].grad.any()


def test_ratings_and_choices_of_the_same_person_add_up() -> None:
    """At a given curvature a choice is a rating of the difference between two pictures."""
    ratings, chosen, given = slider_ratings(), some_choices(), parameters(1)
    found = solved(pad_responses(ratings, chosen), given)
    shared, design, means, root, noise, misfit = (part.numpy() for part in given)
    unit = 2 * (noise[0] + misfit) / LOGISTIC**2
    mine = pad_responses(ratings).counts[0] > 0
    images, counts = pad_responses(ratings).first[0, mine].numpy(), pad_responses(ratings).counts[0, mine].numpy()
    x = np.vstack([design[images], design[0] - design[3]])  # the first person chose between pictures 0 and 3: a tie
    target = np.append(pad_responses(ratings).values[0, mine].numpy() - shared[images], shared[3] - shared[0])
    precision = np.diag(1 / np.append(misfit + noise[0] / counts, 4 * unit))
    covariance = np.linalg.inv(np.linalg.inv(root @ root.T) + x.T @ precision @ x)
    mean = means[0] + covariance @ x.T @ precision @ (target - x @ means[0])
    np.testing.assert_allclose(found.means[0], mean, rtol=1e-9)
    np.testing.assert_allclose(found.covariances[0], covariance, rtol=1e-9, atol=1e-12)


def test_somebodys_choices_leave_the_others_as_they_were() -> None:
    with_choices, without = (
        solved(pad_responses(slider_ratings(), more), parameters(1)) for more in (some_choices(), None)
    )
    for mixed, alone in ((1, 1), (3, 2)):  # the rows of two people who only rated
        torch.testing.assert_close(with_choices.means[mixed], without.means[alone])
        torch.testing.assert_close(with_choices.negative_log_evidence[mixed], without.negative_log_evidence[alone])


def test_some_of_the_people_are_solved_as_among_all() -> None:
    answers = pad_responses(slider_ratings(), some_choices())
    rows = torch.tensor([3, 0])
    part = select_users(answers, rows)
    assert part.counts.shape == (2, 3)  # no wider than it need be
    assert part.user_rows.tolist() == [4, 0]
    whole, some = solved(answers, parameters(1)), solved(part, parameters(1))
    torch.testing.assert_close(some.negative_log_evidence, whole.negative_log_evidence[rows])
    torch.testing.assert_close(some.means, whole.means[rows])
    torch.testing.assert_close(some.covariances, whole.covariances[rows])


def test_a_prior_without_spread_leaves_tastes_at_its_mean() -> None:
    answers, given = pad_responses(slider_ratings(), some_choices()), list(parameters(1))
    given[3] = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    solution = solved(answers, tuple(given))
    torch.testing.assert_close(solution.means, given[2][answers.user_rows])
    assert not solution.covariances.any()


def one_choice(outcome: float, count: int = 1) -> PaddedResponses:
    rows = torch.zeros(count, dtype=torch.int64)
    return pad_responses(None, ChoiceTensors(rows, rows, rows + 1, torch.full((count,), outcome, dtype=torch.float64)))


def converged(answers: PaddedResponses, given: tuple[Tensor, ...]) -> tuple[PaddedResponses, TastePosteriors]:
    for _ in range(50):
        solution = solved(answers, given)
        answers = tighten_bound(answers, solution, given[0], given[1], (given[4] + given[5])[answers.user_rows])
    return answers, solved(answers, given)


def one_dimension(mean: float, spread: float, noise: float, misfit: float) -> tuple[Tensor, ...]:
    """One dimension of taste, 1.5 more of it in the first picture, which everybody likes 0.4 better."""
    numbers = ([0.9, 0.5], [[1.0], [-0.5]], [[mean]], [[spread]], [noise], misfit)
    return tuple(torch.tensor(part, dtype=torch.float64) for part in numbers)


def integrated(outcome: float, count: int, mean: float, spread: float, unit: float) -> tuple[float, float, float]:
    """Log evidence, mean and std of the taste under Bradley-Terry, by numerical integration."""

    def density(taste: float) -> float:
        logit = (0.4 + 1.5 * taste) / unit
        log_likelihood = -outcome * np.logaddexp(0, -logit) - (1 - outcome) * np.logaddexp(0, logit)
        return float(np.exp(count * log_likelihood) * stats.norm.pdf(taste, mean, spread))

    low, high = mean - 10 * spread, mean + 10 * spread
    powers = [integrate.quad(lambda t, k=k: t**k * density(t), low, high, limit=200)[0] for k in range(3)]  # type: ignore[misc]
    centre = powers[1] / powers[0]
    return float(np.log(powers[0])), centre, float(np.sqrt(powers[2] / powers[0] - centre**2))


@pytest.mark.parametrize(("outcome", "count"), [(1.0, 1), (0.0, 1), (0.5, 1), (1.0, 4)])
def test_a_taste_known_from_choices_is_close_to_numerical_integration(outcome: float, count: int) -> None:
    mean, spread, noise, misfit = 0.3, 0.8, 0.4, 0.2
    unit = float(np.sqrt(2 * (noise + misfit)) / LOGISTIC)
    given = one_dimension(mean, spread, noise, misfit)
    _, solution = converged(one_choice(outcome, count), given)
    _, centre, std = integrated(outcome, count, mean, spread, unit)
    assert float(solution.means) == pytest.approx(centre, abs=0.1 * spread)
    # the normal bound is too sure of itself, the more so the more one-sided the choices
    assert (0.9 if count == 1 else 0.78) * std < float(solution.covariances.sqrt()) < 1.01 * std


@pytest.mark.parametrize(("outcome", "count"), [(1.0, 1), (0.0, 3), (0.5, 2)])
def test_what_choices_teach_the_shared_score_is_close_to_numerical_integration(outcome: float, count: int) -> None:
    spread, unit = 0.8, float(np.sqrt(1.2) / LOGISTIC)
    given = one_dimension(0.3, spread, 0.4, 0.2)
    answers, _ = converged(one_choice(outcome, count), given)
    given[2].requires_grad_()
    (slope,) = torch.autograd.grad(solved(answers, given).negative_log_evidence.sum(), given[2])
    up, down = (integrated(outcome, count, 0.3 + step, spread, unit)[0] for step in (1e-3, -1e-3))
    assert float(slope) == pytest.approx(-(up - down) / 2e-3, abs=0.06 * max(1, count))


@pytest.mark.parametrize("outcome", [1.0, 0.0, 0.5])
def test_the_bound_ends_where_it_is_tightest(outcome: float) -> None:
    """The bound of Jaakkola and Jordan on the evidence of one choice, maximised by scipy."""
    given = one_dimension(0.7, 1.3, 0.4, 0.2)
    unit = np.sqrt(1.2) / LOGISTIC
    mean, variance = (0.4 + 1.5 * 0.7) / unit, (1.5 * 1.3 / unit) ** 2  # of the difference in logits

    def curvature_at(xi: float) -> float:
        return float(np.tanh(xi / 2) / (2 * xi))

    def loosest(xi: float) -> float:
        c, pull = curvature_at(xi), outcome - 0.5
        spread = 1 / (1 / variance + c)
        centre = spread * (mean / variance + pull)
        integral = 0.5 * (np.log(spread / variance) + centre**2 / spread - mean**2 / variance)
        return float(-(-np.logaddexp(0, -xi) - xi / 2 + c * xi**2 / 2 + integral))

    best = optimize.minimize_scalar(loosest, bounds=(1e-3, 50), method="bounded", options={"xatol": 1e-8}).x
    answers, _ = converged(one_choice(outcome), given)
    assert float(answers.curvature) == pytest.approx(curvature_at(best), rel=1e-4)


def test_a_tie_pulls_towards_indifference() -> None:
    given = one_dimension(2.0, 1.0, 0.5, 0.0)
    tie, chosen, other = (float(converged(one_choice(o), given)[1].means) for o in (0.5, 1.0, 0.0))
    assert other < tie < 2.0 < chosen


def test_a_choice_asked_the_other_way_round_is_the_same_and_the_opposite_one_its_mirror_image() -> None:
    requested, given = some_choices(), parameters(1)
    turned = ChoiceTensors(requested.users, requested.second, requested.first, 1 - requested.outcomes)
    one, other = (converged(pad_responses(None, part), given)[1] for part in (requested, turned))
    torch.testing.assert_close(one.means, other.means)
    torch.testing.assert_close(one.covariances, other.covariances)
    torch.testing.assert_close(one.negative_log_evidence, other.negative_log_evidence)
    level = (torch.zeros(PICTURES).double(), given[1], torch.zeros(5, WIDTH).double(), *given[3:])
    opposite = replace(requested, outcomes=1 - requested.outcomes)
    one, other = (converged(pad_responses(None, part), level)[1] for part in (requested, opposite))
    assert one.means[1].abs().max() > 0.05
    torch.testing.assert_close(one.means, -other.means)


def test_ratings_need_no_bound() -> None:
    answers, given = pad_responses(slider_ratings()), parameters(1)
    assert tighten_bound(answers, solved(answers, given), given[0], given[1], given[4][answers.user_rows]) is answers
