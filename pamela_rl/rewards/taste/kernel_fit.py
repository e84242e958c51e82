"""Fitting of a taste basis to few people or few images: a Gaussian process that all share, and one of each person's own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import RatingData
from pamela_rl.rewards.taste.evidence import LOGISTIC
from pamela_rl.rewards.taste.kernel_evidence import Known, Scales, fit_scales
from pamela_rl.rewards.taste.kernel_features import KernelFeatures, directions, unit
from pamela_rl.rewards.taste.noise import LEVELS, Noise
from pamela_rl.rewards.taste.responses import Responses
from pamela_rl.rewards.taste.taste_basis import TasteBasis

MAX_LANDMARKS, MIN_LANDMARKS = 300, 64
MAX_WEIGHTS = 3000  # of all people together; many people have fewer landmarks each, since each has a covariance
LOG_NOISE_STD = 0.8  # of people's noise variances around their geometric mean, in logarithms, before they tell
PSEUDO_LEVELS = 2.0  # weight of that, and of the common noise, beside people's own
BOUND_ROUNDS = 6  # updates of the bound on choices
ROUNDS, MIN_PEOPLE = 8, 8  # of learning in what people differ; with fewer people there is nothing to learn
PSEUDO_PEOPLE = 1.0  # weight of the kernel's own covariance beside that of people, for each weight of a taste


def fit_kernel_basis(data: RatingData, seed: int = 0) -> TasteBasis:
    """Fit f_u(x) = mean + bias_u + g(x) + h_u(x), where g and every h_u are Gaussian processes with one kernel.

    The kernel compares directions of encoder features. Its scales maximise the marginal likelihood of all ratings and
    choices; given them, ratings are exact and choices enter through a bound. A person alone is the case in which g and
    h_u cannot be told apart, and nothing is lost. Demographics are not used, nor are validation ratings.

    Args:
        data: Ratings, choices, or both.
        seed: Of the choice of people and landmarks, where there are more than are needed.
    """
    responses, ratings = Responses.of(data), data.train.ratings
    images = responses.images
    features = data.images.features.double()
    centre = features[images].mean(dim=0)
    if len(ratings):
        mean, variance = ratings.mean(), max(float(ratings.var(correction=0)), 1e-4)
        floor = max(data.scale.resolution**2 / 12, 1e-5 * variance)  # rounding to the steps of the scale
    else:  # without ratings there are no rating points; the unit is then one logit
        mean, variance, floor = torch.zeros((), dtype=torch.float64), LOGISTIC**2, 0.0
    known = Known.nothing_but(responses.known(mean))
    scales = fit_scales(responses, directions(features, centre, data.images.parts), known, variance, floor, seed)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    most = min(MAX_LANDMARKS, max(MIN_LANDMARKS, MAX_WEIGHTS // len(data.user_ids)))
    landmarks = unit(features[images[order[:most].sort().values]], centre, scales.parts)
    total = scales.shared + scales.own
    network = KernelFeatures(landmarks, centre, scales.parts, scales.length, scales.linear, total, mean)
    design = torch.zeros(len(features), 1 + len(landmarks), dtype=torch.float64)
    design[images] = network(features[images])[1]
    beyond = torch.zeros(len(features), dtype=torch.float64)
    beyond[images] = network.unexplained(features[images])
    observed = _Observed(responses, design, beyond, mean, len(data.user_ids))
    prior = _Prior.of(scales, len(landmarks))
    noise = observed.noise(prior, scales, floor)
    for _ in range(ROUNDS if len(data.user_ids) >= MIN_PEOPLE else 0):
        prior = observed.learned(prior, scales, noise)
        noise = observed.noise(prior, scales, floor)
    for _ in range(BOUND_ROUNDS if bool(responses.is_choice.any()) else 0):
        observed = observed.tightened(prior, noise)
    shared, everybody = observed.posteriors(prior, noise)
    return TasteBasis(
        network, DemographicsCoding({}, {}), shared.mean[:, None], prior.own + shared.covariance, noise,
        data.user_ids, torch.stack([taste.mean for taste in everybody]),
        torch.stack([taste.covariance for taste in everybody]),
    )  # fmt: skip


@dataclass(frozen=True)
class _Prior:
    """Prior covariances of weights of the design row, ``(w, w)``: of the shared taste, and of what a person adds."""

    shared: Tensor
    own: Tensor

    @classmethod
    def of(cls, scales: Scales, num_landmarks: int) -> _Prior:
        """Return the kernel's own: every weight of psi alike."""
        psi = torch.ones(num_landmarks, dtype=torch.float64)
        # the mean of all people is known from their ratings, so the shared constant hardly varies
        shared = torch.cat([1e-6 * scales.bias[None], scales.shared * psi])
        return cls(shared.diag(), torch.cat([scales.bias[None], scales.own * psi]).diag())


@dataclass(frozen=True)
class _Normal:
    """A normal distribution: mean ``(w,)`` and covariance ``(w, w)``."""

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class _Observed:
    """Responses, with the design rows of all images, ``(m, w)``, and what these leave unexplained, ``(m,)``."""

    responses: Responses
    design: Tensor
    beyond: Tensor
    mean: Tensor
    num_people: int

    def posteriors(self, prior: _Prior, noise: Noise) -> tuple[_Normal, list[_Normal]]:
        """Return the posterior of the shared taste, and of everybody's own taste with it.

        Exact: a person's own part is integrated out, the shared taste is inferred from all people, and what is
        uncertain of it is carried into everybody's covariance.
        """
        shared, added = self._infer(prior, noise)
        return shared, [
            _Normal(shared.mean, prior.own + shared.covariance) if person is None else person.whole(shared, prior)
            for person in added
        ]

    def learned(self, prior: _Prior, scales: Scales, noise: Noise) -> _Prior:
        """Return the prior with the covariance of what people add learned from them: in what dimensions they differ.

        A step of expectation maximisation under an inverse Wishart prior around the kernel's own covariance, which
        decides where there are few people.
        """
        shared, added = self._infer(prior, noise)
        start = _Prior.of(scales, len(prior.own) - 1).own
        weight = PSEUDO_PEOPLE * len(start)
        moments = [person.second_moment(shared, prior) for person in added if person is not None]
        total = torch.stack(moments).sum(dim=0) + weight * start
        return replace(prior, own=total / (len(moments) + weight))

    def tightened(self, prior: _Prior, noise: Noise) -> _Observed:
        """Return a copy with the bound on choices fitted to the current posteriors."""
        _, everybody = self.posteriors(prior, noise)
        users, rows = self.responses.users, self.responses.rows_of(self.design)
        means = torch.stack([taste.mean for taste in everybody])[users]
        covariances = torch.stack([taste.covariance for taste in everybody])
        spread = torch.einsum("ni,nij,nj->n", rows, covariances[users], rows)
        tightened = self.responses.tightened((rows * means).sum(dim=1), spread, noise.variances[users] + noise.misfit)
        return replace(self, responses=tightened)

    def noise(self, prior: _Prior, scales: Scales, floor: float) -> Noise:
        """Estimate everybody's noise on a grid around the common one, by the evidence of their own ratings."""
        is_rating = ~self.responses.is_choice
        log_std = LOG_NOISE_STD if bool(is_rating.any()) else 0.0
        misfit = float(scales.misfit)
        common = Noise(torch.zeros(0, dtype=torch.float64), misfit, float(scales.noise.log()), log_std, floor)
        levels, log_weights = common.levels()
        variances, logs, squares = torch.full((self.num_people,), torch.nan, dtype=torch.float64), [], []
        covariance = prior.shared + prior.own
        for user in self.responses.users[is_rating].unique().tolist():
            mine = self.responses[((self.responses.users == user) & is_rating).nonzero().squeeze(1)]
            rows = self.design[mine.first]
            variance = misfit + self.beyond[mine.first] + levels[:, None] / mine.counts  # (g, n)
            factor = torch.linalg.cholesky(rows @ covariance @ rows.T + torch.diag_embed(variance))
            targets = (mine.values - self.mean).expand(len(levels), -1)[:, :, None]
            white = torch.linalg.solve_triangular(factor, targets, upper=False).squeeze(2)
            evidence = -0.5 * white.square().sum(dim=1) - factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
            repeats = mine.repeat_loss(levels[:, None]).sum(dim=1)
            weights = (log_weights + evidence - repeats).softmax(dim=0)
            variances[user] = weights @ levels
            deviations = log_std * LEVELS
            logs.append(float(weights @ deviations))
            squares.append(float(weights @ deviations.square()))
        shift = sum(logs) / (len(logs) + PSEUDO_LEVELS)
        spread = (sum(squares) - 2 * shift * sum(logs) + len(logs) * shift**2) + PSEUDO_LEVELS * log_std**2
        spread /= len(logs) + PSEUDO_LEVELS
        usual = math.exp(common.log_mean + shift) + floor  # of people without ratings
        variances = torch.where(variances.isnan(), usual, variances)
        return replace(common, variances=variances, log_mean=common.log_mean + shift, log_std=spread**0.5)

    def _infer(self, prior: _Prior, noise: Noise) -> tuple[_Normal, list[_Person | None]]:
        people: list[_Person | None] = [None] * self.num_people
        precision, pull = torch.linalg.inv(prior.shared), torch.zeros(len(prior.shared), dtype=torch.float64)
        for user in self.responses.users.unique().tolist():
            mine = self.responses[(self.responses.users == user).nonzero().squeeze(1)]
            rows = mine.rows_of(self.design)
            targets, variances = mine.observations(
                noise.variances[user].expand(len(mine)), noise.misfit, mine.known(self.mean)
            )
            variances = variances + mine.rows_of(self.beyond[:, None]).squeeze(1).abs()
            factor = torch.linalg.cholesky(rows @ prior.own @ rows.T + variances.diag())
            white = torch.linalg.solve_triangular(factor, torch.cat([rows, targets[:, None]], dim=1), upper=False)
            person = people[user] = _Person(white[:, :-1], white[:, -1])
            precision, pull = precision + person.rows.T @ person.rows, pull + person.rows.T @ person.targets
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        return _Normal(covariance @ pull, covariance), people


@dataclass(frozen=True)
class _Person:
    """One person's responses, whitened by their covariance with the person's own taste integrated out.

    Attributes:
        rows: Design rows, ``(n, w)``.
        targets: Responses without the mean, ``(n,)``.
    """

    rows: Tensor
    targets: Tensor

    def whole(self, shared: _Normal, prior: _Prior) -> _Normal:
        """Return the posterior of the shared taste plus the person's own."""
        gain = prior.own @ self.rows.T
        kept = torch.eye(len(gain), dtype=torch.float64) - gain @ self.rows  # of the shared taste
        covariance = prior.own - gain @ gain.T + kept @ shared.covariance @ kept.T
        return _Normal(shared.mean + gain @ (self.targets - self.rows @ shared.mean), covariance)

    def second_moment(self, shared: _Normal, prior: _Prior) -> Tensor:
        """Return the expectation of the person's own taste times itself, ``(w, w)``."""
        gain = prior.own @ self.rows.T
        mean, lent = gain @ (self.targets - self.rows @ shared.mean), gain @ self.rows
        return prior.own - gain @ gain.T + lent @ shared.covariance @ lent.T + mean[:, None] * mean
