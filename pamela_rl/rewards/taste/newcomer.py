"""Closed-form posterior of a newcomer's taste from a few responses, and active selection of the next picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.posterior import Posterior
from pamela_rl.rewards.taste.taste_basis import TasteBasis


@dataclass(frozen=True)
class PairChoices:
    """Choices of a user between pairs of pictures.

    Attributes:
        first: Features of pictures a.
        second: Features of pictures b.
        outcomes: 1 if a was chosen, 0 if b was, one half for a tie, ``(n,)``.
    """

    first: ImageFeatures
    second: ImageFeatures
    outcomes: Tensor


def fit_newcomer(
    basis: TasteBasis,
    images: ImageFeatures | None = None,
    ratings: Tensor | None = None,
    demographics: Mapping[str, Any] | None = None,
    choices: PairChoices | None = None,
) -> Posterior:
    """Compute a newcomer's posterior from ratings of a few pictures, choices between pairs, or both.

    Args:
        basis: A basis fitted on other users.
        images: The rated pictures.
        ratings: In the units the basis was fitted in, ``(n,)``.
        demographics: Demographics of the user, if known.
        choices: Choices, if any.

    Raises:
        DataError: Responses and pictures do not pair up, or a response is invalid.
    """
    if (images is None) != (ratings is None):
        raise DataError("pictures were given without ratings or ratings without pictures; give both or neither.")
    posterior = basis.prior(demographics)
    if images is not None and ratings is not None:
        _check(ratings, images)
        posterior = basis.infer_taste(images, ratings, demographics)
    return posterior if choices is None else add_choices(basis, posterior, choices)


def add_rating(basis: TasteBasis, posterior: Posterior, images: ImageFeatures, ratings: Tensor) -> Posterior:
    """Return the posterior after more ratings, ``(n,)``, without refitting.

    Raises:
        DataError: Ratings and pictures do not pair up, or a rating is not a finite number.
    """
    _check(ratings, images)
    with torch.no_grad():
        shared, design = basis.network(images.features.float())
        unexplained = basis.network.unexplained(images.features)
    return posterior.observe_ratings(design, ratings.double() - shared.double(), unexplained=unexplained)


def with_more_ratings(basis: TasteBasis, user_id: str, images: ImageFeatures, ratings: Tensor) -> TasteBasis:
    """Return a copy in which a known user's posterior has more ratings, ``(n,)``; nobody is fitted again.

    Raises:
        UnknownUserError: The model does not know the user.
        DataError: Ratings and pictures do not pair up, or a rating is not a finite number.
    """
    _check(ratings, images)
    wider = basis.with_landmarks(images.features)
    return wider.with_user(user_id, add_rating(wider, wider.posterior(user_id), images, ratings))


def add_choices(basis: TasteBasis, posterior: Posterior, choices: PairChoices) -> Posterior:
    """Return the posterior after more choices, without refitting.

    Raises:
        DataError: The pictures do not pair up, or an outcome is invalid.
    """
    first, second, outcomes = choices.first, choices.second, choices.outcomes
    allowed = (outcomes == 0) | (outcomes == 1) | (outcomes == 0.5)
    if not len(first) == len(second) == len(outcomes) or not bool(allowed.all()):
        raise DataError(
            f"{len(outcomes)} choices between {len(first)} and {len(second)} pictures were given, "
            f"{int((~allowed).sum())} of them neither 1 (a), 0 (b) nor 0.5 (tie); give one such number a pair."
        )
    with torch.no_grad():
        (shared_a, design_a), (shared_b, design_b) = (basis.network(p.features.float()) for p in (first, second))
        unexplained = basis.network.unexplained(first.features) + basis.network.unexplained(second.features)
    return posterior.observe_choices(
        design_a.double() - design_b.double(), shared_a.double() - shared_b.double(), outcomes, unexplained
    )


@torch.no_grad()
def next_image(
    basis: TasteBasis, posterior: Posterior, candidates: ImageFeatures, pool: ImageFeatures | None = None
) -> int:
    """Choose the most informative picture to rate next: it reduces the posterior variance of the pool the most.

    The variance is that of differences between pictures of ``pool``, so the user's bias does not count.

    Args:
        basis: A basis fitted on other users.
        posterior: The user's current posterior.
        candidates: Pictures to choose from, without those already rated.
        pool: Pictures whose variance is to be reduced; None takes the candidates.

    Returns:
        The row of the picture in ``candidates``.

    Raises:
        DataError: There is no candidate.
    """
    if not len(candidates):
        raise DataError("there is no picture left to ask about; give at least one candidate.")
    design = basis.network(candidates.features.float())[1].double()
    others = design if pool is None else basis.network(pool.features.float())[1].double()
    covariance = posterior.covariance
    projected = design @ covariance  # (n, w)
    deviations = others - others.mean(dim=0)
    scatter = deviations.T @ deviations
    variance_reduction = ((projected @ scatter) * projected).sum(dim=1)
    unexplained = basis.network.unexplained(candidates.features)
    predictive_variance = (projected * design).sum(dim=1) + posterior.misfit + unexplained + posterior.noise_variance
    return int((variance_reduction / predictive_variance).argmax())


@torch.no_grad()
def next_images(basis: TasteBasis, user_id: str, candidates: ImageFeatures, count: int) -> list[int]:
    """Choose which pictures a known user should rate next: each reduces the variance of all candidates the most.

    Args:
        basis: Of the user.
        user_id: Who is asked.
        candidates: Pictures to choose from.
        count: How many.

    Returns:
        Their rows, the most informative first.

    Raises:
        UnknownUserError: The model does not know the user.
        DataError: There are fewer candidates.
    """
    wider = basis.with_landmarks(candidates.features)
    posterior, left, chosen = wider.posterior(user_id), list(range(len(candidates))), list[int]()
    for _ in range(count):
        row = left.pop(next_image(wider, posterior, candidates[torch.tensor(left, dtype=torch.long)], candidates))
        picture = candidates[torch.tensor([row])]
        foretold = wider.predict(picture, [user_id]).mean  # covariances do not depend on what the rating will be
        posterior = add_rating(wider, posterior, picture, foretold)
        chosen.append(row)
    return chosen


def _check(ratings: Tensor, images: ImageFeatures) -> None:
    if len(images) != len(ratings) or not ratings.isfinite().all():
        raise DataError(
            f"a newcomer gave {len(ratings)} ratings, {int((~ratings.isfinite()).sum())} of them not finite, "
            f"of {len(images)} pictures; give one finite rating a picture."
        )
