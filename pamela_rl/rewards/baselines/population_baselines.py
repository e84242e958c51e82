"""Baselines that predict the same for all users: the mean rating of a picture, or a regression on its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.rewards.baselines.ridge import Standardisation, group_means, variance_components, weighted_ridge
from pamela_rl.rewards.preference import ImageFeatures, RatingData
from pamela_rl.rewards.user_index import user_rows
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class PopulationMean:
    """The mean training rating of the same picture, shrunk towards the overall mean by empirical Bayes.

    The variances between pictures and within a picture are estimated by one-way analysis of variance.

    Attributes:
        user_ids: Known users; the prediction is the same for all.
        ids: Ids of the rated pictures, rising, ``(p,)``.
        means: Their expected ratings, ``(p,)``, float64.
        stds: Standard deviations of these expectations, ``(p,)``, float64.
        overall: The mean of all ratings, used for other pictures.
        spread: Standard deviation of the expected ratings around it.
        noise: Standard deviation of single ratings around the expected rating of their picture.
    """

    user_ids: tuple[str, ...]
    ids: Tensor
    means: Tensor
    stds: Tensor
    overall: float
    spread: float
    noise: float

    def predict(self, images: ImageFeatures, user_ids: list[str]) -> RewardOutput:
        """Return the expected rating of each picture and its std, ``(b,)``.

        Raises:
            UnknownUserError: The model does not know a user.
        """
        user_rows(user_ids, self.user_ids)
        return RewardOutput(
            self._look_up(self.means, self.overall, images), self._look_up(self.stds, self.spread, images)
        )

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the noise, the same for all users, in rating points, ``(b,)``."""
        return torch.full((len(user_rows(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Return the expected rating of each picture, ``(b,)``."""
        return self._look_up(self.means, self.overall, images)

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> PopulationMean:
        """Return a model with one more known user; ratings and demographics are ignored."""
        return replace(self, user_ids=tuple(dict.fromkeys((*self.user_ids, user_id))))

    def _look_up(self, values: Tensor, default: float, images: ImageFeatures) -> Tensor:
        if images.ids is None:
            return torch.full((len(images),), default)
        position = torch.searchsorted(self.ids, images.ids).clamp(max=len(self.ids) - 1)
        return torch.where(self.ids[position] == images.ids, values[position], default).float()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        return {"ids": self.ids, "means": self.means, "stds": self.stds}

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        numbers = {"overall": self.overall, "spread": self.spread, "noise": self.noise}
        return {"user_ids": list(self.user_ids), **numbers}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> PopulationMean:
        """Return the model that ``tensors`` and ``config`` describe."""
        return cls(**{**tensors, **config, "user_ids": tuple(config["user_ids"])})


@dataclass(frozen=True)
class PopulationRegression:
    """A ridge regression from features to pictures' mean ratings.

    Attributes:
        user_ids: Known users; the prediction is the same for all.
        standardisation: Mean and standard deviation of the training features.
        weights: Weights of standardised features, ``(d,)``, float64.
        intercept: In rating points.
        noise: Standard deviation of single ratings around the leave-one-picture-out prediction, in rating points.
    """

    user_ids: tuple[str, ...]
    standardisation: Standardisation
    weights: Tensor
    intercept: float
    noise: float

    def predict(self, images: ImageFeatures, user_ids: list[str]) -> RewardOutput:
        """Predict the average rating, the same for all users, ``(b,)``; the regression gives no std.

        Raises:
            UnknownUserError: The model does not know a user.
        """
        user_rows(user_ids, self.user_ids)
        return RewardOutput(self.predict_population(images))

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the noise, the same for all users, in rating points, ``(b,)``."""
        return torch.full((len(user_rows(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Predict the average rating, ``(b,)``, with gradient to the features."""
        return self.predict_standardised(self.standardisation(images.features)).float()

    def predict_standardised(self, rows: Tensor) -> Tensor:
        """Predict the average rating from standardised features, ``(n,)``, float64."""
        return self.intercept + rows @ self.weights

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> PopulationRegression:
        """Return a model with one more known user; ratings and demographics are ignored."""
        return replace(self, user_ids=tuple(dict.fromkeys((*self.user_ids, user_id))))

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        return {
            "feature_mean": self.standardisation.feature_mean,
            "feature_std": self.standardisation.feature_std,
            "weights": self.weights,
        }

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        return {"user_ids": list(self.user_ids), "intercept": self.intercept, "noise": self.noise}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> PopulationRegression:
        """Return the model that ``tensors`` and ``config`` describe."""
        standardisation = Standardisation(tensors["feature_mean"], tensors["feature_std"])
        return cls(tuple(config["user_ids"]), standardisation, tensors["weights"], config["intercept"], config["noise"])


def fit_population_mean(data: RatingData, seed: int = 0) -> PopulationMean:
    """Average the training ratings of each picture. Validation ratings, choices and ``seed`` are not used.

    Raises:
        DataError: There are no training ratings, or pictures have no ids.
    """
    require_ratings(data)
    if data.images.ids is None:
        raise DataError(
            "the pictures have no ids, which the population mean needs to recognise them; give each a number."
        )
    ratings, ids = data.train.ratings.double(), data.images.ids[data.train.images]
    within, between = variance_components(ratings, ids)
    means, counts, _ = group_means(ratings, ids)
    overall = float(ratings.mean())
    weight = between / (between + within / counts)  # of the picture's own mean against the overall mean
    stds = (weight * within / counts).sqrt()
    expectations = overall + weight * (means - overall)
    return PopulationMean(data.user_ids, ids.unique(), expectations, stds, overall, between**0.5, within**0.5)


def fit_population_regression(data: RatingData, seed: int = 0) -> PopulationRegression:
    """Regress mean ratings of pictures, weighted by their number, on features. ``seed`` and choices are not used.

    The penalty is chosen by leave-one-out cross-validation over pictures. The same predictions give the noise, so
    validation ratings are not needed.

    Raises:
        DataError: There are no training ratings.
    """
    require_ratings(data)
    ratings = data.train.ratings.double()
    means, counts, places = group_means(ratings, data.train.images)
    features = data.images.features[data.train.images.unique()]
    standardisation = Standardisation.of(features)
    weights, intercept, others = weighted_ridge(standardisation(features), means, counts)
    noise = float((ratings - others[places]).square().mean().sqrt())
    return PopulationRegression(data.user_ids, standardisation, weights, float(intercept), noise)


def require_ratings(data: RatingData) -> None:
    """Check that there are training ratings.

    Raises:
        DataError: There are no training ratings.
    """
    if not len(data.train):
        raise DataError("there are 0 training ratings; a model of ratings needs at least one, choices do not count.")
