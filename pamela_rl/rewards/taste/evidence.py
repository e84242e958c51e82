"""Marginal likelihood of ratings and choices under a normal prior over tastes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pamela_rl.rewards.preference import ChoiceTensors, RatingTensors

# scale between a logistic and a normal (Bishop, Pattern Recognition and Machine Learning, 4.5.2: pi/8)
LOGISTIC = (8 / np.pi) ** 0.5


@dataclass(frozen=True)
class PaddedResponses:
    """Ratings and choices of users, one row per user, padded to the longest.

    A user's repeated ratings of a picture are one entry with their mean and count. A choice is an entry with a second
    picture. Padding has a count of 0.

    Attributes:
        user_rows: Row of each user in the list of users, ``(u,)``.
        first: Row of the picture, ``(u, n)``.
        second: Row of the second picture of a choice, or -1, ``(u, n)``.
        values: Mean rating; for a choice +1/2, -1/2, or 0 for a tie, ``(u, n)``, float64.
        counts: Number of ratings in each mean, 1 for a choice, ``(u, n)``, float64.
        sum_of_squares: Sum of squared deviations of repeats from their means, ``(u,)``, float64.
        degrees_of_freedom: Number of ratings minus number of pictures, ``(u,)``, float64.
        curvature: Curvature of the bound on each choice's logistic likelihood, 0 to 1/4, ``(u, n)``, float64.
    """

    user_rows: Tensor
    first: Tensor
    second: Tensor
    values: Tensor
    counts: Tensor
    sum_of_squares: Tensor
    degrees_of_freedom: Tensor
    curvature: Tensor

    @property
    def has_repeats(self) -> bool:
        """Whether any user rated a picture more than once."""
        return bool((self.degrees_of_freedom > 0).any())

    @property
    def is_choice(self) -> Tensor:
        """Which entries are choices, ``(u, n)``."""
        return self.second >= 0


def pad_responses(ratings: RatingTensors | None, choices: ChoiceTensors | None = None) -> PaddedResponses:
    """Collect the responses of all users; users without any are left out."""
    columns = response_columns(ratings, choices)
    users, first, second, values, counts, sum_of_squares, extra = columns
    order = np.argsort(users, kind="stable")
    user_rows, lengths = np.unique(users, return_counts=True)
    row = np.repeat(np.arange(len(user_rows)), lengths)
    place = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    shape = (len(user_rows), int(lengths.max()) if len(lengths) else 0)

    def padded(column: np.ndarray, dtype: torch.dtype, empty: float = 0) -> Tensor:
        table = np.full(shape, empty, dtype=np.float64)
        table[row, place] = column[order]
        return torch.from_numpy(table).to(dtype)

    return PaddedResponses(
        torch.from_numpy(user_rows.astype(np.int64)),
        padded(first, torch.int64),
        padded(second, torch.int64, -1),
        padded(values, torch.float64),
        padded(counts, torch.float64),
        padded(sum_of_squares, torch.float64).sum(dim=1),
        padded(extra, torch.float64).sum(dim=1),
        torch.full(shape, 0.25, dtype=torch.float64),
    )


def response_columns(ratings: RatingTensors | None, choices: ChoiceTensors | None = None) -> list[np.ndarray]:
    """Return the columns of ``PaddedResponses``, users first, one row per response; repeated ratings are one."""
    columns = _rating_columns(ratings) if ratings is not None else _no_columns()
    if choices is None:
        return columns
    given = [np.asarray(part) for part in (choices.users, choices.first, choices.second, choices.outcomes)]
    ones = np.ones(len(choices))
    added = [*given[:3], given[3] - 0.5, ones, 0 * ones, 0 * ones]
    return [np.concatenate(pair) for pair in zip(columns, added, strict=True)]


def _no_columns() -> list[np.ndarray]:
    return [np.zeros(0, dtype=np.int64)] * 3 + [np.zeros(0)] * 4


def _rating_columns(ratings: RatingTensors) -> list[np.ndarray]:
    users, images, given = (np.asarray(part) for part in (ratings.users, ratings.images, ratings.ratings))
    key = users.astype(np.int64) * (int(images.max(initial=0)) + 1) + images
    _, where, group, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    mean = np.bincount(group, given) / count
    sum_of_squares = np.bincount(group, (given - mean[group]) ** 2)
    return [
        users[where],
        images[where],
        np.full(len(where), -1),
        mean,
        count.astype(float),
        sum_of_squares,
        count - 1.0,
    ]


def select_users(responses: PaddedResponses, rows: Tensor) -> PaddedResponses:
    """Return the responses of some users."""
    width = int((responses.counts[rows] > 0).sum(dim=1).max())
    wide = {
        name: getattr(responses, name)[rows, :width] for name in ("first", "second", "values", "counts", "curvature")
    }
    return replace(
        responses,
        **wide,
        **{name: getattr(responses, name)[rows] for name in ("user_rows", "sum_of_squares", "degrees_of_freedom")},
    )


@dataclass(frozen=True)
class TastePosteriors:
    """Posterior of each user's taste, and the evidence.

    Attributes:
        negative_log_evidence: Of each user's responses, up to a constant, ``(u,)``.
        means: Posterior means, ``(u, w)``.
        covariances: Posterior covariances, ``(u, w, w)``.
    """

    negative_log_evidence: Tensor
    means: Tensor
    covariances: Tensor


def infer_tastes(
    responses: PaddedResponses,
    shared: Tensor,
    design: Tensor,
    prior_means: Tensor,
    root: Tensor,
    noise: Tensor,
    misfit: Tensor,
    beyond: Tensor | None = None,
) -> TastePosteriors:
    """Compute posteriors and evidence by integrating over tastes; differentiable in everything but the responses.

    A mean of c ratings is normal around shared + design @ taste with variance misfit + noise / c. A choice is
    Bradley-Terry on the difference, in units of the noise of comparing two ratings; its logistic likelihood enters
    through the normal bound of Jaakkola and Jordan (2000), whose curvature ``responses`` carries.

    Args:
        responses: Responses of u users.
        shared: Score of each picture that all users share, ``(m,)``.
        design: Rows ``[1, phi(x)]``, ``(m, w)``.
        prior_means: Prior mean of each user's taste, ``(u, w)``.
        root: R with R Rᵀ the prior covariance, ``(w, w)``.
        noise: Variance of a single rating around the user's mean for that picture, ``(u,)``.
        misfit: Variance of that mean around the prediction of the basis, a scalar.
        beyond: Further variance of each picture, ``(m,)``; None for none.
    """
    rows, offsets = differences(responses, design.double(), shared.double())
    mask, choice = responses.counts > 0, responses.is_choice
    unit = (
        2 * (noise + misfit).detach()[:, None] / LOGISTIC**2
    )  # of a comparison: squared rating points in a squared logit
    variance = torch.where(choice, unit / responses.curvature, misfit + noise[:, None] / responses.counts.clamp(min=1))
    if beyond is not None:
        open_to = beyond[responses.first] + torch.where(choice, beyond[responses.second.clamp(min=0)], 0.0)
        variance = variance + open_to
    target = torch.where(choice, responses.values * unit.sqrt() / responses.curvature, responses.values)
    precision = torch.where(mask, 1 / variance, torch.zeros_like(variance))
    error = target - offsets - (rows @ prior_means[:, :, None]).squeeze(-1)
    weighted = rows * precision[:, :, None]
    projected = weighted @ root  # (u, n, w)
    inner = torch.eye(root.shape[1], dtype=torch.float64) + root.T @ (rows.transpose(1, 2) @ projected)
    factor = torch.linalg.cholesky(inner)
    pull = (projected.transpose(1, 2) @ error[:, :, None]).squeeze(-1)
    step = torch.cholesky_solve(pull[:, :, None], factor).squeeze(-1)
    volume = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1) - torch.where(mask, precision, 1.0).log().sum(dim=1)
    distance = (precision * error.square()).sum(dim=1) - (pull * step).sum(dim=1)
    repeats = responses.degrees_of_freedom * noise.log() + responses.sum_of_squares / noise
    spread = torch.linalg.solve_triangular(factor, root.T.expand(len(rows), -1, -1), upper=False)
    return TastePosteriors(
        0.5 * (volume + distance + repeats), prior_means + step @ root.T, spread.transpose(1, 2) @ spread
    )


def differences(responses: PaddedResponses, design: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
    """Return the design rows of all responses, ``(u, n, w)``, and their offsets, ``(u, n)``; differences for choices."""
    rows, offsets = design[responses.first], shared[responses.first]
    if bool(responses.is_choice.any()):
        against = responses.second.clamp(min=0)
        rows = rows - torch.where(responses.is_choice[:, :, None], design[against], 0.0)
        offsets = offsets - torch.where(responses.is_choice, shared[against], 0.0)
    return rows, offsets


@torch.no_grad()
def tighten_bound(
    responses: PaddedResponses, posteriors: TastePosteriors, shared: Tensor, design: Tensor, noise: Tensor
) -> PaddedResponses:
    """Update the Jaakkola-Jordan bound on each choice's likelihood from the current posteriors.

    Its curvature is tanh(xi / 2) / (2 xi), where xi is the root mean square of the difference in logits.
    """
    if not bool(responses.is_choice.any()):
        return responses
    rows, offsets = differences(responses, design.double(), shared.double())
    mean = offsets + (rows @ posteriors.means[:, :, None]).squeeze(-1)
    square = mean.square() + (rows @ posteriors.covariances * rows).sum(dim=2)
    xi = (square * LOGISTIC**2 / (2 * noise[:, None])).sqrt().clamp(min=1e-6)
    return replace(responses, curvature=torch.tanh(xi / 2) / (2 * xi))
