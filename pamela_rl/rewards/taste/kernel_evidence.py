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
PART_MEDIAN, PART_STD = 0.1, 1.5  # of the weight of a further part of features, beside the image's 1


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
        parts: Weights of the parts of features, which sum to 1, ``(p,)``.
    """

    shared: Tensor
    own: Tensor
    bias: Tensor
    noise: Tensor
    misfit: Tensor
    length: Tensor
    linear: Tensor
    parts: Tensor


@dataclass(frozen=True)
class Known:
    """What is known of each response before a Gaussian process adds to it.

    Attributes:
        offsets: Its expectation, ``(n,)``.
        rows: What else varies between people, but not between a person's responses: rows that times a person's standard
            normal weights are added to the expectation, ``(n, w)``.
        noise: Variance of a single rating, up to a common factor, ``(n,)``; None where nothing is known of it, nor of
            what people share.
    """

    offsets: Tensor
    rows: Tensor
    noise: Tensor | None = None

    @classmethod
    def nothing_but(cls, offsets: Tensor) -> Known:
        """Return that nothing is known but the expectation."""
        return cls(offsets, offsets.new_zeros(len(offsets), 0))

    def __getitem__(self, rows: Tensor) -> Known:
        """Return what is known of some responses."""
        return Known(self.offsets[rows], self.rows[rows], None if self.noise is None else self.noise[rows])


def fit_scales(
    responses: Responses, directions: Tensor, known: Known, variance: float, floor: float, seed: int
) -> Scales:
    """Maximise the marginal likelihood of responses, all tastes integrated out, times log-normal priors.

    The priors are weak; they decide where the data do not, e.g. between shared and own for a single person.

    Args:
        responses: Of all users; at most ``MAX_RESPONSES`` of them are used, whole people first.
        directions: Of each part of all images' features, ``(m, p, d)``.
        known: Of each response. Where the noise is, nothing is shared, biases are 0, and the scale of noise is a factor.
        variance: Of ratings, squared rating points; the unit of the priors.
        floor: Variance of rounding ratings.
        seed: Of the choice of people, if there are too many.
    """
    chosen = _some_people(responses, seed)
    part, known = responses[chosen], known[chosen]
    images, places = torch.cat([part.first, part.second[part.is_choice]]).unique(return_inverse=True)
    second = torch.full_like(part.second, -1)
    second[part.is_choice] = places[len(part) :]
    part = replace(part, first=places[: len(part)], second=second)
    directions = directions[images].transpose(0, 1)  # (p, m, d)
    cosines = directions @ directions.transpose(1, 2)
    varies = (directions.square().sum(dim=2) > 0).any(dim=1)
    further = len(cosines) - 1
    distance = torch.pdist(directions[0]).median().clamp(min=1e-3) if len(images) > 1 else torch.ones(())
    medians = torch.tensor([*MEDIANS, *[PART_MEDIAN] * further], dtype=torch.float64).log()
    medians[:5] += torch.tensor(variance, dtype=torch.float64).log()
    if known.noise is not None:
        medians[NAMES.index("noise")] = 0.0
    medians[5] += distance.log()
    stds = torch.tensor([*STDS, *[PART_STD] * further], dtype=torch.float64)
    fixed_noise, has_repeats = bool(part.is_choice.all()), bool((part.repeats > 0).any())

    def scales(logs: Tensor) -> Scales:
        values = dict(zip(NAMES, logs[: len(NAMES)].exp().unbind(), strict=True))
        weights = torch.cat([logs.new_ones(1), logs[len(NAMES) :].exp()]) * varies
        values["parts"] = weights / weights.sum().clamp(min=1e-9)
        if fixed_noise:  # the unit of choices is one logit
            values["noise"] = torch.tensor(0.5 * LOGISTIC**2 if known.noise is None else 1.0, dtype=torch.float64)
        if known.noise is not None:
            values["shared"] = values["bias"] = torch.zeros((), dtype=torch.float64)
        if not has_repeats:
            values["misfit"] = torch.zeros((), dtype=torch.float64)
        return Scales(**values)

    def loss(values: NDArray[np.float64], part: Responses) -> tuple[float, NDArray[np.float64]]:
        logs = torch.from_numpy(values).requires_grad_(True)
        total = _negative_log_evidence(part, cosines, scales(logs), known, floor)
        total = total + 0.5 * ((logs - medians) / stds).square().sum()
        (gradient,) = torch.autograd.grad(total, logs)
        return float(total.detach()), gradient.numpy()

    found = medians.numpy().copy()
    for _ in range(BOUND_ROUNDS if bool(part.is_choice.any()) else 1):
        found = minimize(loss, found, (part,), "L-BFGS-B", jac=True, options={"maxiter": 40, "ftol": 1e-6}).x
        part = _tightened(part, cosines, scales(torch.from_numpy(found)), known, floor)
    return scales(torch.from_numpy(found))


def _some_people(responses: Responses, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(responses), generator=generator)  # of a person with more, some
    people = responses.users.unique()
    rank = torch.zeros(int(people.max()) + 1, dtype=torch.int64)
    rank[people] = torch.randperm(len(people), generator=generator)
    by_person = order[rank[responses.users[order]].argsort(stable=True)]
    return by_person[:MAX_RESPONSES].sort().values


def _prior_covariance(responses: Responses, cosines: Tensor, scales: Scales, known: Known) -> Tensor:
    """Return the covariance of what the responses observe, before noise, ``(n, n)``."""
    gram = kernel(torch.einsum("p,pij->ij", scales.parts, cosines), scales.length, scales.linear)
    gram = responses.rows_of(responses.rows_of(gram).T)
    rating = (~responses.is_choice).double()
    same = (responses.users[:, None] == responses.users).double()
    both = rating[:, None] * rating
    constant = both * scales.bias + known.rows @ known.rows.T
    return (scales.shared + same * scales.own) * gram + same * constant


def _noise(scales: Scales, known: Known, floor: float) -> Tensor:
    return (scales.noise + floor).expand(len(known.offsets)) if known.noise is None else scales.noise * known.noise


def _negative_log_evidence(responses: Responses, cosines: Tensor, scales: Scales, known: Known, floor: float) -> Tensor:
    noise = _noise(scales, known, floor)
    targets, variances = responses.observations(noise, scales.misfit, known.offsets)
    factor = torch.linalg.cholesky(_prior_covariance(responses, cosines, scales, known) + variances.diag())
    white = torch.linalg.solve_triangular(factor, targets[:, None], upper=False)
    repeats = responses.repeat_loss(noise).sum()
    return 0.5 * white.square().sum() + factor.diagonal().log().sum() + repeats


@torch.no_grad()
def _tightened(responses: Responses, cosines: Tensor, scales: Scales, known: Known, floor: float) -> Responses:
    noise = _noise(scales, known, floor)
    targets, variances = responses.observations(noise, scales.misfit, known.offsets)
    prior = _prior_covariance(responses, cosines, scales, known)
    factor = torch.linalg.cholesky(prior + variances.diag())
    half = torch.linalg.solve_triangular(factor, prior, upper=False)
    white = torch.linalg.solve_triangular(factor, targets[:, None], upper=False)
    return responses.tightened(
        known.offsets + (half.T @ white).squeeze(1), prior.diagonal() - half.square().sum(dim=0), noise + scales.misfit
    )
