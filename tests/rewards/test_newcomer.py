from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.rewards.newcomer import fit_newcomer, update
from pamela_rl.rewards.taste_basis import Posterior, TasteBasis

NOISE = 0.4


def dense_posterior(
    mean: Tensor, covariance: Tensor, design: Tensor, residuals: Tensor, noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bayes' rule for a normal prior, by precisions; the code under test works in the observations' space."""
    m, s, x, y = (part.double().numpy() for part in (mean, covariance, design, residuals))
    precision = np.linalg.inv(s) + x.T @ x / noise
    return np.linalg.solve(precision, np.linalg.inv(s) @ m + x.T @ y / noise), np.linalg.inv(precision)


def problem(count: int = 7, width: int = 4) -> tuple[Posterior, Tensor, Tensor]:
    root = torch.randn(width, width, dtype=torch.float64)
    prior = Posterior(torch.randn(width, dtype=torch.float64), root @ root.T + 0.1 * torch.eye(width).double())
    return prior, torch.randn(count, width, dtype=torch.float64), torch.randn(count, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_update_is_the_dense_gaussian_posterior(count: int) -> None:
    prior, design, residuals = problem(count)
    after = update(prior, design, residuals, NOISE)
    mean, covariance = dense_posterior(prior.mean, prior.covariance, design, residuals, NOISE)
    torch.testing.assert_close(after.mean, torch.from_numpy(mean), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(after.covariance, torch.from_numpy(covariance), atol=1e-10, rtol=1e-10)


def test_ratings_one_at_a_time_teach_the_same_as_all_at_once_in_any_order() -> None:
    prior, design, residuals = problem(9)
    at_once = update(prior, design, residuals, NOISE)
    step_by_step = prior
    for row in torch.randperm(9).tolist():
        step_by_step = update(step_by_step, design[row : row + 1], residuals[row : row + 1], NOISE)
    torch.testing.assert_close(step_by_step.mean, at_once.mean, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(step_by_step.covariance, at_once.covariance, atol=1e-10, rtol=1e-10)


def test_without_ratings_nothing_is_learned() -> None:
    prior, design, residuals = problem()
    after = update(prior, design[:0], residuals[:0], NOISE)
    torch.testing.assert_close(after.mean, prior.mean)
    torch.testing.assert_close(after.covariance, prior.covariance)


def test_every_rating_narrows_what_is_believed() -> None:
    prior, design, residuals = problem()
    after = update(prior, design, residuals, NOISE)
    torch.testing.assert_close(after.covariance, after.covariance.T, atol=0, rtol=0)
    narrowed = torch.linalg.eigvalsh(prior.covariance - after.covariance)
    assert narrowed.min() > -1e-10
    assert torch.linalg.eigvalsh(after.covariance).min() > 0


def test_many_ratings_find_the_true_taste() -> None:
    prior, design, _ = problem(1000)
    truth = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    residuals = design @ truth + NOISE**0.5 * torch.randn(1000, dtype=torch.float64)
    after = update(prior, design, residuals, NOISE)
    torch.testing.assert_close(after.mean, truth, atol=0.08, rtol=0)


def test_a_prior_that_allows_one_direction_only_stays_in_it() -> None:
    direction = torch.tensor([1.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    prior = Posterior(torch.zeros(4, dtype=torch.float64), torch.outer(direction, direction))  # singular
    _, design, residuals = problem(12)
    after = update(prior, design, residuals, NOISE)
    assert after.mean.isfinite().all()
    torch.testing.assert_close(after.mean, direction * after.mean[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("demographics", [None, {"age": 50}, {"age": None, "unasked": 1}])
def test_a_newcomers_taste_is_the_dense_posterior_over_the_basis(
    small_basis: TasteBasis, demographics: dict[str, object] | None
) -> None:
    features, ratings = torch.randn(6, 5), torch.rand(6) * 4 + 1
    found = fit_newcomer(small_basis, features, ratings, demographics)
    hidden = small_basis.network.trunk(features)
    design = torch.cat([torch.ones(6, 1), small_basis.network.taste(hidden)], dim=1)
    residuals = ratings - small_basis.network.shared(hidden)[:, 0]
    age = torch.tensor([1.0, (50 - 100 / 3) / float(np.std([20, 30, 50]))], dtype=torch.float64)
    said = age if demographics and demographics["age"] else age * torch.tensor([1.0, 0.0])
    mean, covariance = dense_posterior(
        small_basis.prior_map @ said, small_basis.prior_covariance, design, residuals, small_basis.noise_variance
    )
    torch.testing.assert_close(found.mean, torch.from_numpy(mean), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.covariance, torch.from_numpy(covariance), atol=1e-6, rtol=1e-6)


def test_ratings_and_pictures_must_pair_up(small_basis: TasteBasis) -> None:
    with pytest.raises(DataError, match=r"gave 3 ratings, 0 of them not finite, of 4 pictures; give one finite rating"):
        fit_newcomer(small_basis, torch.randn(4, 5), torch.ones(3))


def test_a_rating_that_is_no_number_is_refused(small_basis: TasteBasis) -> None:
    ratings = torch.tensor([1.0, float("nan"), float("inf")])
    with pytest.raises(DataError, match=r"gave 3 ratings, 2 of them not finite"):
        fit_newcomer(small_basis, torch.randn(3, 5), ratings)
