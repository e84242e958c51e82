from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from torch import Tensor

from pamela_rl.rewards.taste.evidence import LOGISTIC
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.posterior import Posterior, posterior_from_prior

Array = NDArray[np.float64]
NOISE = Noise(torch.zeros(0), misfit=0.15, log_mean=-0.8, log_std=0.7, floor=0.05)


def problem(count: int = 7, width: int = 4, noise: Noise = NOISE) -> tuple[Posterior, Tensor, Tensor]:
    root = torch.randn(width, width, dtype=torch.float64)
    covariance = root @ root.T + 0.1 * torch.eye(width, dtype=torch.float64)
    prior = posterior_from_prior(torch.randn(width, dtype=torch.float64), covariance, noise)
    return prior, torch.randn(count, width, dtype=torch.float64), torch.randn(count, dtype=torch.float64)


def one_level(mean: Tensor, covariance: Tensor, noise: float, misfit: float = 0.0) -> Posterior:
    level, certain = torch.tensor([noise], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return Posterior(level, certain, mean.double()[None], covariance.double()[None], misfit)


def dense_posterior(
    mean: Tensor, covariance: Tensor, design: Tensor, ratings: Tensor, spread: Array
) -> tuple[Array, Array]:
    """Bayes' rule for a normal prior, by precisions; the code under test works in the answers' space."""
    m, s, x, y = (part.double().numpy() for part in (mean, covariance, design, ratings))
    weights = np.linalg.inv(spread)
    precision = np.linalg.inv(s) + x.T @ weights @ x
    return np.linalg.solve(precision, np.linalg.inv(s) @ m + x.T @ weights @ y), np.linalg.inv(precision)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_at_each_level_of_noise_it_is_the_dense_normal_posterior(count: int) -> None:
    prior, design, ratings = problem(count)
    after = prior.observe_ratings(design, ratings)
    for level, noise in enumerate(prior.levels.tolist()):
        spread = (noise + 0.15) * np.eye(count)
        mean, covariance = dense_posterior(prior.means[level], prior.covariances[level], design, ratings, spread)
        np.testing.assert_allclose(after.means[level], mean, atol=1e-10)
        np.testing.assert_allclose(after.covariances[level], covariance, atol=1e-10)


def test_a_level_is_as_likely_as_the_ratings_are_under_it() -> None:
    prior, design, ratings = problem(9)
    x, s = design.numpy(), prior.covariances[0].numpy()
    centre = x @ prior.means[0].numpy()
    likelihoods = [
        stats.multivariate_normal(centre, x @ s @ x.T + (noise + 0.15) * np.eye(9)).logpdf(ratings.numpy())
        for noise in prior.levels.tolist()
    ]
    weights = np.exp(prior.log_weights.numpy() + likelihoods)
    np.testing.assert_allclose(prior.observe_ratings(design, ratings).weights, weights / weights.sum(), rtol=1e-9)


def test_repeats_share_what_the_basis_cannot_express_of_their_picture() -> None:
    prior, design, _ = problem(4)
    counts = torch.tensor([1, 3, 2, 5])
    group = torch.arange(4).repeat_interleave(counts)
    ratings = torch.randn(len(group), dtype=torch.float64) + 2 * torch.randn(4, dtype=torch.float64)[group]
    means = torch.zeros(4, dtype=torch.float64).index_add_(0, group, ratings) / counts
    within = float((ratings - means[group]).square().sum())
    after = prior.observe_ratings(design, means, counts, within)
    same = (group[:, None] == group).double().numpy()
    x, weights = design[group], []
    for level, noise in enumerate(prior.levels.tolist()):
        spread = 0.15 * same + noise * np.eye(len(group))
        mean, covariance = dense_posterior(prior.means[level], prior.covariances[level], x, ratings, spread)
        np.testing.assert_allclose(after.means[level], mean, atol=1e-10)
        np.testing.assert_allclose(after.covariances[level], covariance, atol=1e-10)
        full = x.numpy() @ prior.covariances[level].numpy() @ x.numpy().T + spread
        weights.append(stats.multivariate_normal(x.numpy() @ prior.means[level].numpy(), full).logpdf(ratings.numpy()))
    likely = np.exp(prior.log_weights.numpy() + weights - max(weights))
    np.testing.assert_allclose(after.weights, likely / likely.sum(), rtol=1e-9)


def test_ratings_one_at_a_time_teach_the_same_as_all_at_once_in_any_order() -> None:
    prior, design, ratings = problem(9)
    at_once = prior.observe_ratings(design, ratings)
    for order in (torch.arange(9), torch.randperm(9)):
        step_by_step = prior
        for row in order.tolist():
            step_by_step = step_by_step.observe_ratings(design[row : row + 1], ratings[row : row + 1])
        torch.testing.assert_close(step_by_step.means, at_once.means, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(step_by_step.covariances, at_once.covariances, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(step_by_step.log_weights, at_once.log_weights, atol=1e-10, rtol=1e-10)


def test_its_moments_are_those_of_tastes_drawn_from_it() -> None:
    prior, design, ratings = problem(3)
    after = prior.observe_ratings(design, 3 * ratings)
    assert after.weights.max() < 0.9  # a mixture in earnest
    numbers = np.random.default_rng(0)
    counts = numbers.multinomial(400_000, after.weights.numpy())
    drawn = [
        numbers.multivariate_normal(mean.numpy(), covariance.numpy(), count)
        for mean, covariance, count in zip(after.means, after.covariances, counts, strict=True)
    ]
    tastes, levels = np.concatenate(drawn), np.repeat(after.levels.numpy(), counts)
    scale = tastes.std(axis=0)
    np.testing.assert_allclose(after.mean / scale, tastes.mean(axis=0) / scale, atol=0.01)
    np.testing.assert_allclose(after.covariance / np.outer(scale, scale), np.corrcoef(tastes.T), atol=0.01)
    assert float(after.noise_variance) == pytest.approx(levels.mean(), rel=0.01)


def test_without_answers_nothing_is_learned() -> None:
    prior, design, ratings = problem()
    for after in (
        prior.observe_ratings(design[:0], ratings[:0]),
        prior.observe_choices(design[:0], ratings[:0], ratings[:0]),
    ):
        torch.testing.assert_close(after.means, prior.means)
        torch.testing.assert_close(after.covariances, prior.covariances)
        torch.testing.assert_close(after.log_weights, prior.log_weights)


def test_every_rating_narrows_what_is_believed() -> None:
    prior, design, ratings = problem()
    after = prior.observe_ratings(design, ratings)
    torch.testing.assert_close(after.covariances, after.covariances.mT, atol=1e-12, rtol=0)
    assert torch.linalg.eigvalsh(prior.covariances - after.covariances).min() > -1e-10
    assert torch.linalg.eigvalsh(after.covariances).min() > 0


def test_many_ratings_find_the_true_taste_and_the_true_noise() -> None:
    prior, design, _ = problem(400)
    truth = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    noise = float(prior.levels[5])
    spread = (noise + prior.misfit) ** 0.5
    after = prior.observe_ratings(design, design @ truth + spread * torch.randn(400, dtype=torch.float64))
    torch.testing.assert_close(after.mean, truth, atol=0.2, rtol=0)
    assert after.weights.argmax() == 5
    assert float(after.noise_variance) == pytest.approx(noise, rel=0.15)


def test_a_prior_that_allows_one_direction_only_stays_in_it() -> None:
    direction = torch.tensor([1.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    prior = posterior_from_prior(
        torch.zeros(4, dtype=torch.float64), torch.outer(direction, direction), NOISE
    )  # singular
    _, design, ratings = problem(12)
    for after in (
        prior.observe_ratings(design, ratings),
        prior.observe_choices(design, 0 * ratings, (ratings > 0).double()),
    ):
        assert after.mean.isfinite().all()
        torch.testing.assert_close(after.mean, direction * after.mean[0], atol=1e-12, rtol=0)
        assert after.mean[0].abs() > 0.01


def bradley_terry(offset: float, slope: float, unit: float, outcomes: list[float], prior_std: float) -> Array:
    """Mean and std of one dimension of taste by numerical integration over it."""
    wins, losses = (sum(outcomes), len(outcomes) - sum(outcomes))  # a tie is half of each

    def density(taste: float) -> float:
        logit = (offset + slope * taste) / unit
        return float(
            np.exp(-wins * np.logaddexp(0, -logit) - losses * np.logaddexp(0, logit))
            * stats.norm.pdf(taste, 0, prior_std)
        )

    span = 10 * prior_std
    moments = [integrate.quad(lambda t, k=k: t**k * density(t), -span, span, limit=200)[0] for k in range(3)]  # type: ignore[misc]
    mean = moments[1] / moments[0]
    return np.array([mean, np.sqrt(moments[2] / moments[0] - mean**2)])


@pytest.mark.parametrize("outcomes", [[1.0], [0.0], [0.5], [1.0, 1.0, 1.0, 0.0], [1.0] * 6])
@pytest.mark.parametrize(("offset", "misfit"), [(0.0, 0.0), (0.7, 0.2)])
def test_choices_teach_what_integrating_bradley_terry_gives(
    outcomes: list[float], offset: float, misfit: float
) -> None:
    noise, slope, prior_std = 0.5, 1.3, 0.8
    unit = np.sqrt(2 * (noise + misfit)) / LOGISTIC  # rating points in a logit
    mean, std = bradley_terry(offset, slope, unit, outcomes, prior_std)
    prior = one_level(torch.zeros(1), torch.tensor([[prior_std**2]]), noise, misfit)
    count = len(outcomes)
    after = prior.observe_choices(torch.full((count, 1), slope), torch.full((count,), offset), torch.tensor(outcomes))
    assert float(after.mean) == pytest.approx(mean, abs=0.1 * prior_std)
    # the normal bound is too sure of itself, the more so the more one-sided the choices
    assert (0.9 if len(set(outcomes)) > 1 or count == 1 else 0.78) * std < float(after.covariance.sqrt()) < 1.01 * std


def test_a_tie_pulls_towards_indifference_and_a_choice_beyond_it() -> None:
    prior = one_level(torch.tensor([1.0]), torch.tensor([[1.0]]), 0.5)
    design, nothing = torch.ones(1, 1), torch.zeros(1)
    tie, chosen, other = (
        float(prior.observe_choices(design, nothing, torch.tensor([o])).mean) for o in (0.5, 1.0, 0.0)
    )
    assert 0 < tie < 1 < chosen
    assert other < tie


def test_a_choice_asked_the_other_way_round_teaches_the_same() -> None:
    prior, design, offsets = problem(6)
    outcomes = torch.tensor([1.0, 0.0, 0.5, 1.0, 1.0, 0.0])
    one, other = (
        prior.observe_choices(design, offsets, outcomes),
        prior.observe_choices(-design, -offsets, 1 - outcomes),
    )
    torch.testing.assert_close(one.means, other.means, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(one.covariances, other.covariances, atol=1e-10, rtol=1e-10)


def test_the_opposite_choices_make_the_mirror_image() -> None:
    _, design, _ = problem(5)
    prior = posterior_from_prior(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64), NOISE)
    outcomes, nothing = torch.tensor([1.0, 0.0, 0.5, 1.0, 1.0]), torch.zeros(5)
    one, other = prior.observe_choices(design, nothing, outcomes), prior.observe_choices(design, nothing, 1 - outcomes)
    assert one.mean.abs().max() > 0.1
    torch.testing.assert_close(one.means, -other.means)
    torch.testing.assert_close(one.covariances, other.covariances)


def test_a_choice_of_a_noisier_person_teaches_less() -> None:
    design, nothing, chosen = torch.ones(1, 1), torch.zeros(1), torch.ones(1)
    priors = (one_level(torch.zeros(1), torch.ones(1, 1), noise) for noise in (0.1, 0.5, 2.0))
    means = [float(prior.observe_choices(design, nothing, chosen).mean) for prior in priors]
    assert means == sorted(means, reverse=True)


def test_choices_leave_what_is_believed_of_the_noise() -> None:
    prior, design, offsets = problem(6)
    after = prior.observe_choices(design, offsets, torch.ones(6))
    torch.testing.assert_close(after.log_weights, prior.log_weights, atol=0, rtol=0)
