"""A baseline from demographics alone: linear regression on products of demographics and image features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.rewards.baselines.population_baselines import (
    PopulationRegression,
    fit_population_regression,
    require_ratings,
)
from pamela_rl.rewards.baselines.ridge import PENALTIES, leading_axes, moments, with_constant
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.rating_tensors import hold_out_images
from pamela_rl.rewards.tensor_names import add_prefix, strip_prefix
from pamela_rl.rewards.user_index import user_rows, with_user_row
from pamela_rl.types import RewardOutput

NUM_AXES = 16


@dataclass(frozen=True)
class DemographicRegression:
    """rating = population regression + sum over demographic columns j of d_j <v_j, [1, z(x)]>.

    Attributes:
        population: The regression on image features for all users.
        axes: From standardised features to z, ``(features, q)``, float64.
        coding: Encoding of demographics.
        weights: v, one row for each column of the coding without its constant, ``(columns, 1 + q)``, float64.
        user_ids: Known users.
        user_demographics: d of each user, ``(u, columns)``, float64; zeros for missing values.
        noise: Standard deviation of single ratings around the prediction on held-out pictures, in rating points.
    """

    population: PopulationRegression
    axes: Tensor
    coding: DemographicsCoding
    weights: Tensor
    user_ids: tuple[str, ...]
    user_demographics: Tensor
    noise: float

    def predict(self, images: ImageFeatures, user_ids: list[str]) -> RewardOutput:
        """Predict each person's rating of each picture, ``(b,)``; the regression gives no std.

        Raises:
            UnknownUserError: The model does not know a user.
        """
        user_demographics = self.user_demographics[user_rows(user_ids, self.user_ids)]
        rows = self.population.standardisation(images.features)
        offset = ((user_demographics @ self.weights) * with_constant(rows @ self.axes)).sum(dim=1)
        return RewardOutput((self.population.predict_standardised(rows) + offset).float())

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the noise, the same for all users, in rating points, ``(b,)``."""
        return torch.full((len(user_rows(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Predict the average rating, ``(b,)``: the population regression."""
        return self.population.predict_population(images)

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> DemographicRegression:
        """Return a model with one more user, known by demographics; pictures and ratings are ignored."""
        users, user_demographics = with_user_row(
            user_id, self.coding.encode(demographics)[1:], self.user_ids, self.user_demographics
        )
        return replace(self, user_ids=users, user_demographics=user_demographics)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        population = add_prefix("population", self.population.tensors())
        own = {"axes": self.axes, "weights": self.weights, "user_demographics": self.user_demographics}
        return {name: value.contiguous() for name, value in (population | own).items()}

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        return {
            "population": self.population.config(),
            "demographics": self.coding.to_json(),
            "user_ids": list(self.user_ids),
            "noise": self.noise,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> DemographicRegression:
        """Return the model that ``tensors`` and ``config`` describe."""
        return cls(
            PopulationRegression.restore(strip_prefix("population", tensors), config["population"]),
            tensors["axes"],
            DemographicsCoding.from_json(config["demographics"]),
            tensors["weights"],
            tuple(config["user_ids"]),
            tensors["user_demographics"],
            config["noise"],
        )


def fit_demographic_regression(data: RatingData, seed: int = 0) -> DemographicRegression:
    """Fit the population regression, then a regression of its residuals on demographics. Choices are ignored.

    Args:
        data: The penalty and the noise are chosen on the validation ratings. Without them a tenth of the training
            pictures, with all their ratings, is held out.
        seed: Of what is held out.

    Raises:
        DataError: There are no training or no held-out ratings.
    """
    require_ratings(data)
    train, held_out = (data.train, data.validation) if data.validation else hold_out_images(data.train, seed)
    if not len(train):
        raise DataError(
            f"all {len(data.train)} ratings are of one picture; a regression needs ratings of at least two."
        )
    population = fit_population_regression(replace(data, train=train))
    coding = DemographicsCoding.of(data.demographics)
    user_demographics = torch.stack([coding.encode(data.demographics_of(user))[1:] for user in data.user_ids])
    rows = population.standardisation(data.images.features)
    axes = leading_axes(rows[train.images.unique()], NUM_AXES)

    def parts(ratings: RatingTensors) -> tuple[Tensor, Tensor]:
        features = rows[ratings.images]
        return with_constant(features @ axes), ratings.ratings.double() - population.predict_standardised(features)

    gram, moment = moments(*parts(train), train.users, len(user_demographics))
    choices = _ridges(
        torch.einsum("ui,uj,uab->iajb", user_demographics, user_demographics, gram),
        torch.einsum("ui,ua->ia", user_demographics, moment),
    )
    design, residuals = parts(held_out)
    predictions = torch.einsum("ni,pia,na->np", user_demographics[held_out.users], choices, design)
    errors = (residuals[:, None] - predictions).square().mean(dim=0)
    best = int(errors.argmin())
    return DemographicRegression(
        population, axes, coding, choices[best], data.user_ids, user_demographics, float(errors[best].sqrt())
    )


def _ridges(gram: Tensor, moment: Tensor) -> Tensor:
    """Solve for every penalty, ``(penalties, columns, k)``, given ``(columns, k, columns, k)`` and ``(columns, k)``."""
    values, vectors = torch.linalg.eigh(gram.flatten(2).flatten(0, 1))
    if not len(values):
        return moment.expand(len(PENALTIES), *moment.shape)
    shrunk = (vectors.T @ moment.flatten()) / (values.clamp(min=0) + PENALTIES[:, None] * values[-1].clamp(min=1e-12))
    return (shrunk @ vectors.T).unflatten(1, moment.shape)
