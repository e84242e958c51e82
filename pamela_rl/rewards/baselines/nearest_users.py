"""Nearest users: a user's taste is a weighted mean over the training users who best predict the user's ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pamela_rl.rewards.baselines.population_baselines import PopulationRegression
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.tensor_names import add_prefix, strip_prefix
from pamela_rl.rewards.user_index import user_rows, with_user_row
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class Neighbourhood:
    """How neighbours are chosen and weighted.

    Attributes:
        penalty: Penalty of each user's ridge regression, in units of squared distances along the axes.
        count: Largest number of neighbours.
        temperature: Divides the log-likelihood of the neighbours.
        noise_variance: Variance of single ratings around a user's regression, in squared rating points.
        bias_penalty: Number of ratings at which a user's mean residual is shrunk by half.
    """

    penalty: float
    count: int
    temperature: float
    noise_variance: float
    bias_penalty: float

    def fit_user(self, slopes: Tensor, design: Tensor, residuals: Tensor) -> Tensor:
        """Return a user's bias and the weighted mean of the neighbours' slopes, ``(1 + q,)``.

        Without ratings all candidates have the same weight.

        Args:
            slopes: Slopes of the candidates, ``(p, q)``.
            design: Rated pictures along the axes, ``(n, q)``.
            residuals: Ratings minus the population regression, ``(n,)``.
        """
        if not len(residuals):
            return torch.cat([torch.zeros(1, dtype=torch.float64), slopes.mean(dim=0)])
        return self.blend(slopes, *self.compare(slopes, design, residuals))

    def compare(self, slopes: Tensor, design: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each candidate the best bias of the user, and the penalised squared error with it, ``(p,)``."""
        errors = residuals[:, None] - design @ slopes.T  # (n, p)
        biases = errors.sum(dim=0) / (len(residuals) + self.bias_penalty)
        return biases, (errors - biases).square().sum(dim=0) + self.bias_penalty * biases.square()

    def blend(self, slopes: Tensor, biases: Tensor, losses: Tensor) -> Tensor:
        """Return biases and slopes, ``(..., 1 + q)``, weighted by the likelihood of the ratings under each candidate.

        Args:
            slopes: Slopes of the candidates, ``(p, q)``.
            biases: By user and candidate, ``(..., p)``.
            losses: Penalised squared errors, ``(..., p)``; infinite for candidates to exclude.
        """
        nearest = losses.topk(min(self.count, len(slopes)), largest=False)
        weights = (-0.5 * nearest.values / (self.noise_variance * self.temperature)).softmax(dim=-1)
        bias = (weights * biases.gather(-1, nearest.indices)).sum(dim=-1, keepdim=True)
        return torch.cat([bias, (weights[..., None] * slopes[nearest.indices]).sum(dim=-2)], dim=-1)

    def slopes(self, gram: Tensor, moment: Tensor) -> Tensor:
        """Return the slopes of each user's ridge regression, without the bias, ``(u, q)``.

        Args:
            gram: Gram matrices of the constant and the axes, ``(u, 1 + q, 1 + q)``.
            moment: Products of constant and axes with the residuals, ``(u, 1 + q)``.
        """
        penalties = torch.full((gram.shape[-1],), self.penalty, dtype=torch.float64)
        penalties[0] = self.bias_penalty
        return torch.linalg.solve(gram + penalties.diag(), moment)[:, 1:]


@dataclass(frozen=True)
class NearestUsers:
    """rating = population regression + bias + <slope, z(x)>, with a weighted mean of training users' slopes.

    With one-hot features of pictures this is memory-based collaborative filtering.

    Attributes:
        population: The regression on image features for all users.
        axes: From standardised features to z, ``(features, q)``, float64.
        rule: How neighbours are chosen and weighted.
        slopes: Slopes of the training users with ratings, ``(p, q)``, float64.
        user_ids: Known users.
        user_weights: Bias and slopes of each user, ``(u, 1 + q)``, float64.
        noise: Standard deviation of single ratings around the prediction, in rating points.
    """

    population: PopulationRegression
    axes: Tensor
    rule: Neighbourhood
    slopes: Tensor
    user_ids: tuple[str, ...]
    user_weights: Tensor
    noise: float

    def predict(self, images: ImageFeatures, user_ids: list[str]) -> RewardOutput:
        """Predict each person's rating of each picture, ``(b,)``; the model gives no std.

        Raises:
            UnknownUserError: The model does not know a user.
        """
        return RewardOutput(self._rate(images, self.user_weights[user_rows(user_ids, self.user_ids)]))

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the noise, the same for all users, in rating points, ``(b,)``."""
        return torch.full((len(user_rows(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Predict for a user without ratings, ``(b,)``: all candidates have the same weight."""
        no_ratings = self.rule.fit_user(self.slopes, self.slopes[:0], self.slopes.new_zeros(0))
        return self._rate(images, no_ratings.expand(len(images), -1))

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> NearestUsers:
        """Return a model with one more user, known by a few ratings; demographics are ignored.

        The new user does not become a neighbour of others.
        """
        users, user_weights = with_user_row(user_id, self._fit_user(images, ratings), self.user_ids, self.user_weights)
        return replace(self, user_ids=users, user_weights=user_weights)

    def _fit_user(self, images: ImageFeatures, ratings: Tensor) -> Tensor:
        rows = self.population.standardisation(images.features)
        return self.rule.fit_user(
            self.slopes, rows @ self.axes, ratings.double() - self.population.predict_standardised(rows)
        )

    def _rate(self, images: ImageFeatures, user_weights: Tensor) -> Tensor:
        rows = self.population.standardisation(images.features)
        offset = user_weights[:, 0] + (user_weights[:, 1:] * (rows @ self.axes)).sum(dim=1)
        return (self.population.predict_standardised(rows) + offset).float()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        population = add_prefix("population", self.population.tensors())
        own = {"axes": self.axes, "slopes": self.slopes, "user_weights": self.user_weights}
        return {name: value.contiguous() for name, value in (population | own).items()}

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        return {
            "population": self.population.config(),
            "rule": asdict(self.rule),
            "user_ids": list(self.user_ids),
            "noise": self.noise,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> NearestUsers:
        """Return the model that ``tensors`` and ``config`` describe."""
        return cls(
            PopulationRegression.restore(strip_prefix("population", tensors), config["population"]),
            tensors["axes"],
            Neighbourhood(**config["rule"]),
            tensors["slopes"],
            tuple(config["user_ids"]),
            tensors["user_weights"],
            config["noise"],
        )
