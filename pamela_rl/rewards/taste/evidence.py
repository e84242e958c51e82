"""How likely people's answers are when their tastes are drawn from a normal prior: the marginal likelihood."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pamela_rl.rewards.preference import Choices, Observations

# a normal with this much spread less is the logistic's (Bishop, Pattern Recognition and Machine Learning, 4.5.2: pi/8)
LOGISTIC = (8 / np.pi) ** 0.5


@dataclass(frozen=True)
class Answers:
    """What people said, one row a person, padded to the longest.

    Somebody's repeats of a picture are one entry: their mean and their count. A choice is an entry with a second
    picture. Padding has a count of 0.

    Attributes:
        people: Row of each person in the list of users, ``(u,)``.
        first: Row of the picture, ``(u, n)``.
        second: Row of the picture it was compared with, or -1, ``(u, n)``.
        values: Mean rating; of a choice +1/2, -1/2, or 0 for a tie, ``(u, n)``, float64.
        counts: Ratings behind each mean, 1 for a choice, ``(u, n)``, float64.
        within: Sum of squares of repeats around their means, ``(u,)``, float64.
        freedom: Ratings more than pictures, ``(u,)``, float64.
        curvature: Of each choice's logistic likelihood, from 0 to 1/4, ``(u, n)``, float64.
    """

    people: Tensor
    first: Tensor
    second: Tensor
    values: Tensor
    counts: Tensor
    within: Tensor
    freedom: Tensor
    curvature: Tensor

    @property
    def has_repeats(self) -> bool:
        """Whether anybody rated a picture more than once."""
        return bool((self.freedom > 0).any())

    @property
    def is_choice(self) -> Tensor:
        """Which entries are choices, ``(u, n)``."""
        return self.second >= 0


def collect(ratings: Observations | None, choices: Choices | None = None) -> Answers:
    """Gather everybody's answers; people without any are left out."""
    columns = _rating_columns(ratings) if ratings is not None else _nothing()
    if choices is not None:
        given = [np.asarray(part) for part in (choices.users, choices.first, choices.second, choices.outcomes)]
        ones = np.ones(len(choices))
        added = [*given[:3], given[3] - 0.5, ones, 0 * ones, 0 * ones]
        columns = [np.concatenate(pair) for pair in zip(columns, added, strict=True)]
    users, first, second, values, counts, within, extra = columns
    order = np.argsort(users, kind="stable")
    people, lengths = np.unique(users, return_counts=True)
    row = np.repeat(np.arange(len(people)), lengths)
    place = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    shape = (len(people), int(lengths.max()) if len(lengths) else 0)

    def padded(column: np.ndarray, dtype: torch.dtype, empty: float = 0) -> Tensor:
        laid = np.full(shape, empty, dtype=np.float64)
        laid[row, place] = column[order]
        return torch.from_numpy(laid).to(dtype)

    return Answers(
        torch.from_numpy(people.astype(np.int64)),
        padded(first, torch.int64),
        padded(second, torch.int64, -1),
        padded(values, torch.float64),
        padded(counts, torch.float64),
        padded(within, torch.float64).sum(dim=1),
        padded(extra, torch.float64).sum(dim=1),
        torch.full(shape, 0.25, dtype=torch.float64),
    )


def _nothing() -> list[np.ndarray]:
    return [np.zeros(0, dtype=np.int64)] * 3 + [np.zeros(0)] * 4


def _rating_columns(ratings: Observations) -> list[np.ndarray]:
    users, images, given = (np.asarray(part) for part in (ratings.users, ratings.images, ratings.ratings))
    key = users.astype(np.int64) * (int(images.max(initial=0)) + 1) + images
    _, where, group, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    mean = np.bincount(group, given) / count
    within = np.bincount(group, (given - mean[group]) ** 2)
    return [users[where], images[where], np.full(len(where), -1), mean, count.astype(float), within, count - 1.0]


def batch_of(answers: Answers, rows: Tensor) -> Answers:
    """Return some of the people."""
    width = int((answers.counts[rows] > 0).sum(dim=1).max())
    wide = {name: getattr(answers, name)[rows, :width] for name in ("first", "second", "values", "counts", "curvature")}
    return replace(answers, **wide, **{name: getattr(answers, name)[rows] for name in ("people", "within", "freedom")})


@dataclass(frozen=True)
class Solution:
    """Everybody's posterior and how likely their answers were.

    Attributes:
        negative_log_evidence: Of each person's answers, up to a constant, ``(u,)``.
        means: Of their tastes, ``(u, w)``.
        covariances: Of their tastes, ``(u, w, w)``.
    """

    negative_log_evidence: Tensor
    means: Tensor
    covariances: Tensor


def solve(
    answers: Answers, shared: Tensor, design: Tensor, prior_means: Tensor, root: Tensor, noise: Tensor, misfit: Tensor
) -> Solution:
    """Integrate over tastes. Differentiable in everything but the answers.

    A mean of c ratings is normal around shared + design @ taste with variance misfit + noise / c. A choice is
    Bradley-Terry on the difference, in units of the noise of comparing two ratings; its logistic likelihood enters
    through the normal bound of Jaakkola and Jordan (2000), whose curvature ``answers`` carries.

    Args:
        answers: Of u people.
        shared: Everybody's score of each picture, ``(m,)``.
        design: Rows ``[1, phi(x)]``, ``(m, w)``.
        prior_means: Of each person's taste before any answer, ``(u, w)``.
        root: R with R Rᵀ the prior covariance, ``(w, w)``.
        noise: Variance of a single rating around the person's own mean for that picture, ``(u,)``.
        misfit: Variance of that mean around what the basis can express, a scalar.
    """
    rows, offsets = differences(answers, design.double(), shared.double())
    known, choice = answers.counts > 0, answers.is_choice
    unit = (
        2 * (noise + misfit).detach()[:, None] / LOGISTIC**2
    )  # of a comparison: squared rating points in a squared logit
    variance = torch.where(choice, unit / answers.curvature, misfit + noise[:, None] / answers.counts.clamp(min=1))
    target = torch.where(choice, answers.values * unit.sqrt() / answers.curvature, answers.values)
    precision = torch.where(known, 1 / variance, torch.zeros_like(variance))
    error = target - offsets - (rows @ prior_means[:, :, None]).squeeze(-1)
    weighted = rows * precision[:, :, None]
    projected = weighted @ root  # (u, n, w)
    inner = torch.eye(root.shape[1], dtype=torch.float64) + root.T @ (rows.transpose(1, 2) @ projected)
    factor = torch.linalg.cholesky(inner)
    pull = (projected.transpose(1, 2) @ error[:, :, None]).squeeze(-1)
    step = torch.cholesky_solve(pull[:, :, None], factor).squeeze(-1)
    volume = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1) - torch.where(known, precision, 1.0).log().sum(dim=1)
    distance = (precision * error.square()).sum(dim=1) - (pull * step).sum(dim=1)
    repeats = answers.freedom * noise.log() + answers.within / noise
    spread = torch.linalg.solve_triangular(factor, root.T.expand(len(rows), -1, -1), upper=False)
    return Solution(0.5 * (volume + distance + repeats), prior_means + step @ root.T, spread.transpose(1, 2) @ spread)


def differences(answers: Answers, design: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
    """Return what each answer says about a taste: rows ``(u, n, w)`` and what is added to them, ``(u, n)``."""
    rows, offsets = design[answers.first], shared[answers.first]
    if bool(answers.is_choice.any()):
        against = answers.second.clamp(min=0)
        rows = rows - torch.where(answers.is_choice[:, :, None], design[against], 0.0)
        offsets = offsets - torch.where(answers.is_choice, shared[against], 0.0)
    return rows, offsets


@torch.no_grad()
def bend(answers: Answers, solution: Solution, shared: Tensor, design: Tensor, noise: Tensor) -> Answers:
    """Fit the bound of every choice's likelihood to what is now believed of it.

    The curvature at xi, the root mean square of the difference in logits, is tanh(xi / 2) / (2 xi).
    """
    if not bool(answers.is_choice.any()):
        return answers
    rows, offsets = differences(answers, design.double(), shared.double())
    mean = offsets + (rows @ solution.means[:, :, None]).squeeze(-1)
    square = mean.square() + (rows @ solution.covariances * rows).sum(dim=2)
    xi = (square * LOGISTIC**2 / (2 * noise[:, None])).sqrt().clamp(min=1e-6)
    return replace(answers, curvature=torch.tanh(xi / 2) / (2 * xi))
