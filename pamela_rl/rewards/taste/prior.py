"""Fitting of the prior over tastes by expectation maximisation, given the network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import RatingData, RatingTensors
from pamela_rl.rewards.taste.evidence import (
    PaddedResponses,
    TastePosteriors,
    infer_tastes,
    pad_responses,
    tighten_bound,
)
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.taste_basis import Network, TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures

NUM_ROUNDS = 30


@torch.no_grad()
def fit_prior(
    network: TasteFeatures, train_data: RatingData, data: RatingData, held_out: RatingTensors | None, noise: Noise
) -> TasteBasis:
    """Fit the prior N(A d, Sigma), and calibrate the noise on held-out pictures.

    Args:
        network: The fitted network.
        train_data: Data that the network was fitted on.
        data: Data for the users' posteriors; ``train_data`` or more.
        held_out: Ratings of other pictures by the same users, or None to keep the noise.
        noise: Noise from the training of the network.
    """
    if held_out is not None:
        basis = _expectation_maximisation(network, train_data, noise)
        noise = _calibrate_noise(basis, train_data, held_out)
    return _expectation_maximisation(network, data, noise)


@dataclass(frozen=True)
class _Prior:
    """Prior over tastes N(A d, Sigma), with a prior N(0, Sigma / penalty) on A without its constant."""

    effects: Tensor  # A, (w, demographics)
    covariance: Tensor  # Sigma, (w, w)
    penalty: float


def _expectation_maximisation(network: TasteFeatures, data: RatingData, noise: Noise) -> TasteBasis:
    coding = DemographicsCoding.of(
        None if data.demographics is None else data.demographics[data.demographics.index.isin(data.user_ids)]
    )
    demographics = torch.stack([coding.encode(data.demographics_of(user)) for user in data.user_ids])
    responses = pad_responses(data.train, data.choices)
    responses, shared, design, _ = evaluate_images(network, data, responses)
    width = design.shape[1]
    start = torch.zeros(width, demographics.shape[1], dtype=torch.float64)
    prior = _Prior(start, torch.eye(width, dtype=torch.float64), 1.0)
    user_demographics, variances = demographics[responses.user_rows], noise.variances[responses.user_rows]
    misfit = torch.tensor(noise.misfit, dtype=torch.float64)

    def expect() -> TastePosteriors:
        root = torch.linalg.cholesky(prior.covariance)
        return infer_tastes(responses, shared, design, user_demographics @ prior.effects.T, root, variances, misfit)

    for _ in range(NUM_ROUNDS):
        posteriors = expect()
        responses = tighten_bound(responses, posteriors, shared, design, variances + misfit)
        prior = _maximise(prior, posteriors, user_demographics)
    posteriors = expect()
    means = demographics @ prior.effects.T  # prior means, kept for users without responses
    covariances = prior.covariance.repeat(len(means), 1, 1)
    means[responses.user_rows], covariances[responses.user_rows] = posteriors.means, posteriors.covariances
    return TasteBasis(network, coding, prior.effects, prior.covariance, noise, data.user_ids, means, covariances)


def evaluate_images(
    network: Network, data: RatingData, responses: PaddedResponses
) -> tuple[PaddedResponses, Tensor, Tensor, Tensor]:
    """Evaluate features of tastes on the pictures with responses, and renumber the responses' pictures accordingly.

    Returns:
        The responses; of each picture the shared score, ``(m,)``, the design row, ``(m, w)``, and what that leaves
        unexplained, ``(m,)``, float64.
    """
    mask = responses.counts > 0
    image_rows = torch.cat([responses.first[mask], responses.second[responses.is_choice]]).unique()
    position = torch.zeros(len(data.images), dtype=torch.int64)
    position[image_rows] = torch.arange(len(image_rows))
    second = torch.where(responses.is_choice, position[responses.second.clamp(min=0)], -1)
    features = data.images.features[image_rows].float()
    parts = (*network(features), network.unexplained(features))
    shared, design, beyond = (part.double() for part in parts)
    return replace(responses, first=position[responses.first], second=second), shared, design, beyond


def _maximise(prior: _Prior, posteriors: TastePosteriors, demographics: Tensor) -> _Prior:
    """M-step: effects of demographics by ridge regression, covariance of the residuals, and the ridge penalty."""
    width, columns = prior.effects.shape
    ridge = torch.full((columns,), prior.penalty, dtype=torch.float64)
    ridge[0] = 1e-6  # the constant, i.e. the mean taste, is not shrunk
    precision = demographics.T @ demographics + ridge.diag()
    effects = torch.linalg.solve(precision, demographics.T @ posteriors.means).T
    residuals = posteriors.means - demographics @ effects.T
    covariance = (posteriors.covariances + residuals[:, :, None] * residuals[:, None, :]).mean(dim=0)
    covariance += 1e-6 * torch.eye(width, dtype=torch.float64)
    if columns == 1:
        return _Prior(effects, covariance, prior.penalty)
    size = (torch.linalg.solve(covariance, effects[:, 1:]) * effects[:, 1:]).sum()
    uncertainty = width * torch.linalg.inv(precision).diagonal()[1:].sum()
    return _Prior(effects, covariance, float(width * (columns - 1) / (size + uncertainty)))


def _calibrate_noise(basis: TasteBasis, data: RatingData, held_out: RatingTensors) -> Noise:
    """Choose the misfit, or without repeats a factor of the noise, by maximum likelihood of held-out ratings.

    The network fits its training pictures better than other ones, so training underestimates these variances.
    """
    shared, design = (part.double() for part in basis.network(data.images.features[held_out.images].float()))
    error = held_out.ratings - shared - (design * basis.means[held_out.users]).sum(dim=1)
    uncertainty = ((design[:, None] @ basis.covariances[held_out.users]).squeeze(1) * design).sum(dim=1)
    noise_variances = basis.noise.variances[held_out.users]

    def negative_log_likelihood(variance: Tensor) -> float:
        return float((variance.log() + error.square() / variance).mean())

    if pad_responses(data.train).has_repeats:
        sizes = [0.0, *(float(noise_variances.mean()) * torch.logspace(-3, 1, 60)).tolist()]
        misfit = min(sizes, key=lambda size: negative_log_likelihood(uncertainty + noise_variances + size))
        return replace(basis.noise, misfit=misfit)
    factor = min(
        torch.logspace(-1, 1, 120).tolist(),
        key=lambda size: negative_log_likelihood(uncertainty + size * noise_variances),
    )
    return basis.noise.scaled(factor)
