"""Scales of a Gaussian process over people and images, by marginal likelihood with weak priors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from pamela_rl.rewards.taste.evidence import LOGISTIC
from pamela_rl.rewards.taste.kernel_features import kernel
from pamela_rl.rewards.taste.responses import Responses

MAX_RESPONSES = 600  # that scales are learned from; more would take minutes and change little
BOUND_ROUNDS = 4  # alternations of scales and the bound on choices
NAMES = ("shared", "own", "bias", "noise", "misfit", "length", "linear")
# prior medians, in units of the variance of ratings; the length in units of the median distance; and stds of logarithms
MEDIANS, STDS = (0.3, 0.3, 0.2, 0.3, 0.1, 1.0, 0.5), (1.5, 1.5, 1.5, 1.0, 1.5, 0.7, 1.5)


@dataclass(frozen=True)
class Scales:
    """Hyperparameters, ``()`` each, float64.

    Attributes:
        shared: Variance over images of what all people share, squared rating points.
        own: Variance over images of what a person adds to it.
        bias: Variance over people of their mean rating.
        noise: Variance of a single rating, beyond rounding.
        misfit: Variance of what is the same in all ratings of an image by a person, and different at every image; 0
            without repeated ratings, which alone tell it from noise.
        length: Of the kernel.
        linear: Weight of the kernel's cosine.
    """

    shared: Tensor
    own: Tensor
    bias: Tensor
    noise: Tensor
    misfit: Tensor
    length: Tensor
    linear: Tensor


def fit_scales(
    responses: Responses, directions: Tensor, mean: Tensor, variance: float, floor: float, seed: int
) -> Scales:
    """Maximise the marginal likelihood of responses, all tastes integrated out, times log-normal priors.

    The priors are weak; they decide where the data do not, e.g. between shared and own for a single person.

    Args:
        responses: Of all users; at most ``MAX_RESPONSES`` of them are used, whole people first.
        directions: Unit vectors of all images, ``(m, d)``.
        mean: Shared score of every image, ``()``.
        variance: Of ratings, squared rating points; the unit of the priors.
        floor: Variance of rounding ratings.
        seed: Of the choice of people, if there are too many.
    """
    part = _some_people(responses, seed)
    images, places = torch.cat([part.first, part.second[part.is_choice]]).unique(return_inverse=True)
    second = torch.full_like(part.second, -1)
    second[part.is_choice] = places[len(part) :]
    part = replace(part, first=places[: len(part)], second=second)
    directions = directions[images]
    distance = torch.pdist(directions).median().clamp(min=1e-3) if len(images) > 1 else torch.ones(())
    medians = torch.tensor(MEDIANS, dtype=torch.float64).log()
    medians[:5] += torch.tensor(variance, dtype=torch.float64).log()
    medians[5] += distance.log()
    stds, fixed_noise = torch.tensor(STDS, dtype=torch.float64), bool(part.is_choice.all())
    has_repeats = bool((part.repeats > 0).any())

    def scales(logs: Tensor) -> Scales:
        values = dict(zip(NAMES, logs.exp().unbind(), strict=True))
        if fixed_noise:  # the unit of choices is one logit
            values["noise"] = torch.tensor(0.5 * LOGISTIC**2, dtype=torch.float64)
        if not has_repeats:
            values["misfit"] = torch.zeros((), dtype=torch.float64)
        return Scales(**values)

    def loss(values: NDArray[np.float64], part: Responses) -> tuple[float, NDArray[np.float64]]:
        logs = torch.from_numpy(values).requires_grad_(True)
        total = _negative_log_evidence(part, directions, scales(logs), mean, floor)
        total = total + 0.5 * ((logs - medians) / stds).square().sum()
        (gradient,) = torch.autograd.grad(total, logs)
        return float(total.detach()), gradient.numpy()

    found = medians.numpy().copy()
    for _ in range(BOUND_ROUNDS if bool(part.is_choice.any()) else 1):
        found = minimize(loss, found, (part,), "L-BFGS-B", jac=True, options={"maxiter": 40, "ftol": 1e-6}).x
        part = _tightened(part, directions, scales(torch.from_numpy(found)), mean, floor)
    return scales(torch.from_numpy(found))


def _some_people(responses: Responses, seed: int) -> Responses:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(responses), generator=generator)  # of a person with more, some
    people = responses.users.unique()
    rank = torch.zeros(int(people.max()) + 1, dtype=torch.int64)
    rank[people] = torch.randperm(len(people), generator=generator)
    by_person = order[rank[responses.users[order]].argsort(stable=True)]
    return responses[by_person[:MAX_RESPONSES].sort().values]


def _prior_covariance(responses: Responses, directions: Tensor, scales: Scales) -> Tensor:
    """Return the covariance of what the responses observe, before noise, ``(n, n)``."""
    gram = kernel(directions, directions, scales.length, scales.linear)
    gram = responses.rows_of(responses.rows_of(gram).T)
    rating = (~responses.is_choice).double()
    same = (responses.users[:, None] == responses.users).double()
    both = rating[:, None] * rating
    return (scales.shared + same * scales.own) * gram + same * both * scales.bias


def _negative_log_evidence(
    responses: Responses, directions: Tensor, scales: Scales, mean: Tensor, floor: float
) -> Tensor:
    noise = (scales.noise + floor).expand(len(responses))
    targets, variances = responses.observations(noise, scales.misfit, mean)
    factor = torch.linalg.cholesky(_prior_covariance(responses, directions, scales) + variances.diag())
    white = torch.linalg.solve_triangular(factor, targets[:, None], upper=False)
    repeats = responses.repeat_loss(noise).sum()
    return 0.5 * white.square().sum() + factor.diagonal().log().sum() + repeats


@torch.no_grad()
def _tightened(responses: Responses, directions: Tensor, scales: Scales, mean: Tensor, floor: float) -> Responses:
    noise = (scales.noise + floor).expand(len(responses))
    targets, variances = responses.observations(noise, scales.misfit, mean)
    prior = _prior_covariance(responses, directions, scales)
    factor = torch.linalg.cholesky(prior + variances.diag())
    half = torch.linalg.solve_triangular(factor, prior, upper=False)
    white = torch.linalg.solve_triangular(factor, targets[:, None], upper=False)
    return responses.tightened(
        (half.T @ white).squeeze(1), prior.diagonal() - half.square().sum(dim=0), noise + scales.misfit
    )
