"""A newcomer's taste in closed form, from a handful of answers, and what to ask them next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.rewards.preference import Pictures
from pamela_rl.rewards.taste.posterior import Posterior
from pamela_rl.rewards.taste.taste_basis import TasteBasis


@dataclass(frozen=True)
class Preferences:
    """A newcomer's choices between pairs of pictures.

    Attributes:
        first: Pictures a.
        second: Pictures b.
        outcomes: 1 where a was chosen, 0 where b was, one half for a tie, ``(n,)``.
    """

    first: Pictures
    second: Pictures
    outcomes: Tensor


def fit_newcomer(
    basis: TasteBasis,
    pictures: Pictures | None = None,
    ratings: Tensor | None = None,
    reported: Mapping[str, Any] | None = None,
    preferences: Preferences | None = None,
) -> Posterior:
    """Learn somebody's taste from ratings of a few pictures, choices between pairs, or both.

    Args:
        basis: Fitted on other people.
        pictures: The rated ones.
        ratings: In the units the basis was fitted in, ``(n,)``.
        reported: What the person reports, if anything.
        preferences: Choices, if any.

    Raises:
        DataError: Answers and pictures do not pair up, or an answer is not what it can be.
    """
    if (pictures is None) != (ratings is None):
        raise DataError("pictures were given without ratings or ratings without pictures; give both or neither.")
    posterior = basis.prior(reported)
    if pictures is not None and ratings is not None:
        _check(ratings, pictures)
        posterior = basis.learn(pictures, ratings, reported)
    return posterior if preferences is None else add_preferences(basis, posterior, preferences)


def add_rating(basis: TasteBasis, posterior: Posterior, pictures: Pictures, ratings: Tensor) -> Posterior:
    """Return what is known after some more ratings, ``(n,)``; nothing is fitted again.

    Raises:
        DataError: Ratings and pictures do not pair up, or a rating is not a finite number.
    """
    _check(ratings, pictures)
    with torch.no_grad():
        shared, design = basis.network(pictures.features.float())
    return posterior.observe(design, ratings.double() - shared.double())


def add_preferences(basis: TasteBasis, posterior: Posterior, preferences: Preferences) -> Posterior:
    """Return what is known after some more choices; nothing is fitted again.

    Raises:
        DataError: The pictures do not pair up, or an outcome is none.
    """
    first, second, outcomes = preferences.first, preferences.second, preferences.outcomes
    allowed = (outcomes == 0) | (outcomes == 1) | (outcomes == 0.5)
    if not len(first) == len(second) == len(outcomes) or not bool(allowed.all()):
        raise DataError(
            f"{len(outcomes)} choices between {len(first)} and {len(second)} pictures were given, "
            f"{int((~allowed).sum())} of them neither 1 (a), 0 (b) nor 0.5 (tie); give one such number a pair."
        )
    with torch.no_grad():
        (shared_a, design_a), (shared_b, design_b) = (basis.network(p.features.float()) for p in (first, second))
    return posterior.prefer(design_a.double() - design_b.double(), shared_a.double() - shared_b.double(), outcomes)


@torch.no_grad()
def next_image(basis: TasteBasis, posterior: Posterior, candidates: Pictures, pool: Pictures | None = None) -> int:
    """Choose the picture whose rating would teach most: it lowers the doubt about all pictures furthest.

    What is lowered is the variance of how the pictures of ``pool`` compare with one another: the person's kindness,
    which moves all of them alike, is not worth a question.

    Args:
        basis: Fitted on other people.
        posterior: What is known so far.
        candidates: Pictures that may be asked about, those already rated not among them.
        pool: Pictures that the person's taste matters for; None takes the candidates.

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
    told = design @ covariance  # (n, w)
    centred = others - others.mean(dim=0)
    spread = centred.T @ centred
    gained = ((told @ spread) * told).sum(dim=1)
    unsure = (told * design).sum(dim=1) + posterior.misfit + posterior.noise_variance
    return int((gained / unsure).argmax())


def _check(ratings: Tensor, pictures: Pictures) -> None:
    if len(pictures) != len(ratings) or not ratings.isfinite().all():
        raise DataError(
            f"a newcomer gave {len(ratings)} ratings, {int((~ratings.isfinite()).sum())} of them not finite, "
            f"of {len(pictures)} pictures; give one finite rating a picture."
        )
