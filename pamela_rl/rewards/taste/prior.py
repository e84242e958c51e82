"""The prior over tastes, learned from everybody's answers by expectation maximisation, given the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import Observations, RatingData
from pamela_rl.rewards.taste.evidence import Answers, Solution, bend, collect, solve
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.taste_basis import TasteBasis, TasteFeatures

NUM_ROUNDS = 30


@torch.no_grad()
def fit_prior(
    network: TasteFeatures, learnt: RatingData, data: RatingData, held: Observations | None, noise: Noise
) -> TasteBasis:
    """Learn the prior N(A d, Sigma), and correct the noise by ratings of pictures that the network did not learn from.

    Args:
        network: Fitted.
        learnt: What it was fitted to.
        data: Everything that people's tastes may be learned from; ``learnt`` or more.
        held: Ratings of other pictures by the same people, or None; then the noise stays as it is.
        noise: As it was while the network was trained.
    """
    if held is not None:
        basis = _expectation_maximisation(network, learnt, noise)
        noise = _corrected(basis, learnt, held)
    return _expectation_maximisation(network, data, noise)


@dataclass(frozen=True)
class _Prior:
    """Of tastes: N(A d, Sigma), where A without its constant is N(0, Sigma / penalty) itself."""

    effects: Tensor  # A, (w, demographics)
    covariance: Tensor  # Sigma, (w, w)
    penalty: float


def _expectation_maximisation(network: TasteFeatures, data: RatingData, noise: Noise) -> TasteBasis:
    coding = DemographicsCoding.of(None if data.people is None else data.people[data.people.index.isin(data.user_ids)])
    reported = torch.stack([coding.encode(data.reported(user)) for user in data.user_ids])
    answers = collect(data.train, data.choices)
    answers, shared, design = _look(network, data, answers)
    width = design.shape[1]
    start = torch.zeros(width, reported.shape[1], dtype=torch.float64)
    prior = _Prior(start, torch.eye(width, dtype=torch.float64), 1.0)
    mine, variances = reported[answers.people], noise.variances[answers.people]
    misfit = torch.tensor(noise.misfit, dtype=torch.float64)

    def expect() -> Solution:
        root = torch.linalg.cholesky(prior.covariance)
        return solve(answers, shared, design, mine @ prior.effects.T, root, variances, misfit)

    for _ in range(NUM_ROUNDS):
        believed = expect()
        answers = bend(answers, believed, shared, design, variances + misfit)
        prior = _maximise(prior, believed, mine)
    believed = expect()
    means = reported @ prior.effects.T  # of those who said nothing
    covariances = prior.covariance.repeat(len(means), 1, 1)
    means[answers.people], covariances[answers.people] = believed.means, believed.covariances
    return TasteBasis(network, coding, prior.effects, prior.covariance, noise, data.user_ids, means, covariances)


def _look(network: TasteFeatures, data: RatingData, answers: Answers) -> tuple[Answers, Tensor, Tensor]:
    """Compute what is needed of the pictures that somebody answered about."""
    known = answers.counts > 0
    asked = torch.cat([answers.first[known], answers.second[answers.is_choice]]).unique()
    place = torch.zeros(len(data.pictures), dtype=torch.int64)
    place[asked] = torch.arange(len(asked))
    second = torch.where(answers.is_choice, place[answers.second.clamp(min=0)], -1)
    shared, design = network(data.pictures.features[asked].float())
    return replace(answers, first=place[answers.first], second=second), shared.double(), design.double()


def _maximise(prior: _Prior, believed: Solution, reported: Tensor) -> _Prior:
    """One step: effects of demographics by ridge regression, covariance of what they leave, and the ridge itself."""
    width, columns = prior.effects.shape
    ridge = torch.full((columns,), prior.penalty, dtype=torch.float64)
    ridge[0] = 1e-6  # the mean taste is free; what follows from demographics must earn its place
    precision = reported.T @ reported + ridge.diag()
    effects = torch.linalg.solve(precision, reported.T @ believed.means).T
    off = believed.means - reported @ effects.T
    covariance = (believed.covariances + off[:, :, None] * off[:, None, :]).mean(dim=0)
    covariance += 1e-6 * torch.eye(width, dtype=torch.float64)
    if columns == 1:
        return _Prior(effects, covariance, prior.penalty)
    size = (torch.linalg.solve(covariance, effects[:, 1:]) * effects[:, 1:]).sum()
    doubt = width * torch.linalg.inv(precision).diagonal()[1:].sum()
    return _Prior(effects, covariance, float(width * (columns - 1) / (size + doubt)))


def _corrected(basis: TasteBasis, data: RatingData, held: Observations) -> Noise:
    """Choose the misfit, or without repeats the size of the noise, under which held-out ratings are likeliest.

    What the network expresses of pictures it learned from is more than it will express of others.
    """
    shared, design = (part.double() for part in basis.network(data.pictures.features[held.images].float()))
    error = held.ratings - shared - (design * basis.means[held.users]).sum(dim=1)
    doubt = ((design[:, None] @ basis.covariances[held.users]).squeeze(1) * design).sum(dim=1)
    own = basis.noise.variances[held.users]

    def surprise(variance: Tensor) -> float:
        return float((variance.log() + error.square() / variance).mean())

    if collect(data.train).has_repeats:
        sizes = [0.0, *(float(own.mean()) * torch.logspace(-3, 1, 60)).tolist()]
        misfit = min(sizes, key=lambda size: surprise(doubt + own + size))
        return replace(basis.noise, misfit=misfit)
    factor = min(torch.logspace(-1, 1, 120).tolist(), key=lambda size: surprise(doubt + size * own))
    return basis.noise.scaled(factor)
