"""A Gaussian process of each person's own, beside the taste basis that many people share."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from pamela_rl.rewards.preference import RatingData
from pamela_rl.rewards.taste.evidence import infer_tastes, pad_responses, select_users, tighten_bound
from pamela_rl.rewards.taste.kernel_evidence import Known, fit_scales
from pamela_rl.rewards.taste.kernel_features import KernelFeatures, directions, unit
from pamela_rl.rewards.taste.prior import evaluate_images
from pamela_rl.rewards.taste.responses import Responses
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import FeaturesWithOwnProcess, TasteFeatures

MAX_PEOPLE = 2000  # each has a covariance, which would fill the memory
NUM_LANDMARKS = 64
LEAST_SHARE = 0.1  # of the variance of a single rating; less is not worth its memory
USERS_PER_STEP = 64
BOUND_ROUNDS = 4


@torch.no_grad()
def with_own_process(basis: TasteBasis, data: RatingData, seed: int = 0) -> TasteBasis:
    """Return a basis in which every person has a Gaussian process of their own beside the common dimensions.

    What a person thinks of an image beyond the basis is alike at images that are alike. The scales maximise the marginal
    likelihood of some people's responses, given the basis; where they find nothing of the kind, the basis is returned as it is.
    Noise stays as it was calibrated on held-out images, since the network has learned from the others.

    Args:
        basis: Fitted to ``data``.
        data: Ratings, choices, or both.
        seed: Of the choice of people and landmarks.
    """
    assert isinstance(basis.network, TasteFeatures)
    responses = Responses.of(data)
    images = responses.images
    features = data.images.features
    shared, design = (
        torch.zeros(len(features), *part.shape[1:], dtype=torch.float64) for part in basis.network(features[:1].float())
    )
    shared[images], design[images] = (part.double() for part in basis.network(features[images].float()))
    prior_means = torch.stack([basis.prior(data.demographics_of(user)).mean for user in data.user_ids])
    rows = responses.rows_of(design)
    offsets = responses.rows_of(shared[:, None]).squeeze(1) + (rows * prior_means[responses.users]).sum(dim=1)
    root = torch.linalg.cholesky(basis.prior_covariance)
    noise = basis.noise.variances[responses.users]
    variance = float(noise.mean()) + basis.noise.misfit
    centre = features[images].double().mean(dim=0)
    with torch.enable_grad():
        scales = fit_scales(
            responses, directions(features, centre, data.images.parts), Known(offsets, rows @ root, noise), variance, 0.0,
            seed,
        )  # fmt: skip
    if float(scales.own) < LEAST_SHARE * variance:
        return basis
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    landmarks = unit(features[images[order[:NUM_LANDMARKS].sort().values]], centre, scales.parts)
    none = torch.zeros((), dtype=torch.float64)
    own = KernelFeatures(landmarks, centre, scales.parts, scales.length, scales.linear, scales.own, none)
    network = FeaturesWithOwnProcess(basis.network, own).requires_grad_(False)
    added = scales.own * torch.eye(len(landmarks), dtype=torch.float64)
    wider = replace(
        basis,
        network=network,
        demographic_effects=nn.functional.pad(basis.demographic_effects, (0, 0, 0, len(landmarks))),
        prior_covariance=torch.block_diag(basis.prior_covariance, added),
    )
    return _with_posteriors(wider, data)


def _with_posteriors(basis: TasteBasis, data: RatingData) -> TasteBasis:
    """Infer everybody's taste under the prior of the basis."""
    given, shared, design, beyond = evaluate_images(basis.network, data, pad_responses(data.train, data.choices))
    root, misfit = torch.linalg.cholesky(basis.prior_covariance), torch.tensor(basis.noise.misfit, dtype=torch.float64)
    means = torch.stack([basis.prior(data.demographics_of(user)).mean for user in data.user_ids])
    covariances = basis.prior_covariance.repeat(len(means), 1, 1)
    for users in torch.arange(len(given.user_rows)).split(USERS_PER_STEP):
        part = select_users(given, users)
        noise = basis.noise.variances[part.user_rows]
        for _ in range(BOUND_ROUNDS if bool(part.is_choice.any()) else 1):
            found = infer_tastes(part, shared, design, means[part.user_rows], root, noise, misfit, beyond)
            part = tighten_bound(part, found, shared, design, noise + misfit)
        means[part.user_rows], covariances[part.user_rows] = found.means, found.covariances
    return replace(basis, means=means, covariances=covariances)
