"""Models that know nobody: what people on average think of a picture, by looking it up or from its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.rewards.baselines.ridge import Standardisation, group_means, variance_components, weighted_ridge
from pamela_rl.rewards.known_users import rows_of
from pamela_rl.rewards.preference import Pictures, RatingData
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class PopulationMean:
    """The mean training rating of the same picture, shrunk towards the mean of all.

    The weight is empirical Bayes': ratings are a picture's expectation and noise, expectations are spread around the
    mean of all, and both variances are estimated from the ratings (one-way analysis of variance).

    Attributes:
        user_ids: People who can be asked for; everybody gets the same.
        ids: Of the pictures that were rated, rising, ``(p,)``.
        means: Their expectations, ``(p,)``, float64.
        stds: How unsure those are, ``(p,)``, float64.
        overall: The mean of all ratings, for every other picture.
        spread: Of expectations around it.
        noise: Of single ratings around their picture's expectation.
    """

    user_ids: tuple[str, ...]
    ids: Tensor
    means: Tensor
    stds: Tensor
    overall: float
    spread: float
    noise: float

    def predict(self, pictures: Pictures, user_ids: list[str]) -> RewardOutput:
        """Return each picture's expectation and how unsure it is, ``(b,)``.

        Raises:
            UnknownUserError: The model does not know a person.
        """
        rows_of(user_ids, self.user_ids)
        return RewardOutput(
            self._look_up(self.means, self.overall, pictures), self._look_up(self.stds, self.spread, pictures)
        )

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the same spread for everybody, in rating units, ``(b,)``."""
        return torch.full((len(rows_of(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, pictures: Pictures) -> Tensor:
        """Return each picture's expectation, ``(b,)``."""
        return self._look_up(self.means, self.overall, pictures)

    def introduce(
        self, user_id: str, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None
    ) -> PopulationMean:
        """Return a model that can be asked for one more person; nothing is learned of them."""
        return replace(self, user_ids=tuple(dict.fromkeys((*self.user_ids, user_id))))

    def _look_up(self, values: Tensor, otherwise: float, pictures: Pictures) -> Tensor:
        if pictures.ids is None:
            return torch.full((len(pictures),), otherwise)
        place = torch.searchsorted(self.ids, pictures.ids).clamp(max=len(self.ids) - 1)
        return torch.where(self.ids[place] == pictures.ids, values[place], otherwise).float()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that is a tensor, by name."""
        return {"ids": self.ids, "means": self.means, "stds": self.stds}

    def facts(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""
        numbers = {"overall": self.overall, "spread": self.spread, "noise": self.noise}
        return {"user_ids": list(self.user_ids), **numbers}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> PopulationMean:
        """Return the model that ``tensors`` and ``facts`` describe."""
        return cls(**{**tensors, **facts, "user_ids": tuple(facts["user_ids"])})


@dataclass(frozen=True)
class PopulationRegression:
    """A ridge regression from features to pictures' mean ratings.

    Attributes:
        user_ids: People who can be asked for; everybody gets the same.
        standardisation: Of features, by the training pictures.
        weights: Of standardised features, ``(d,)``, float64.
        intercept: In rating units.
        noise: Spread of single ratings around what all other pictures' ratings predict, in rating units.
    """

    user_ids: tuple[str, ...]
    standardisation: Standardisation
    weights: Tensor
    intercept: float
    noise: float

    def predict(self, pictures: Pictures, user_ids: list[str]) -> RewardOutput:
        """Predict what people on average would rate, whoever asks, ``(b,)``; without std: the line has none.

        Raises:
            UnknownUserError: The model does not know a person.
        """
        rows_of(user_ids, self.user_ids)
        return RewardOutput(self.predict_population(pictures))

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the same spread for everybody, in rating units, ``(b,)``."""
        return torch.full((len(rows_of(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, pictures: Pictures) -> Tensor:
        """Predict what people on average would rate, ``(b,)``, with gradient to the features."""
        return self.line(self.standardisation(pictures.features)).float()

    def line(self, rows: Tensor) -> Tensor:
        """Return the ratings of standardised features, ``(n,)``, float64."""
        return self.intercept + rows @ self.weights

    def introduce(
        self, user_id: str, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None
    ) -> PopulationRegression:
        """Return a model that can be asked for one more person; nothing is learned of them."""
        return replace(self, user_ids=tuple(dict.fromkeys((*self.user_ids, user_id))))

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that is a tensor, by name."""
        return {
            "centre": self.standardisation.centre,
            "spread": self.standardisation.spread,
            "weights": self.weights,
        }

    def facts(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""
        return {"user_ids": list(self.user_ids), "intercept": self.intercept, "noise": self.noise}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> PopulationRegression:
        """Return the model that ``tensors`` and ``facts`` describe."""
        standardisation = Standardisation(tensors["centre"], tensors["spread"])
        return cls(tuple(facts["user_ids"]), standardisation, tensors["weights"], facts["intercept"], facts["noise"])


def fit_population_mean(data: RatingData, seed: int = 0) -> PopulationMean:
    """Average the training ratings of each picture; validation ratings, choices and ``seed`` play no part.

    Raises:
        DataError: There are no training ratings, or pictures have no ids.
    """
    require_ratings(data)
    if data.pictures.ids is None:
        raise DataError("the pictures have no ids, by which the population mean knows them again; give each a number.")
    ratings, ids = data.train.ratings.double(), data.pictures.ids[data.train.images]
    within, between = variance_components(ratings, ids)
    means, counts, _ = group_means(ratings, ids)
    overall = float(ratings.mean())
    weight = between / (between + within / counts)  # of the picture's own mean
    stds = (weight * within / counts).sqrt()
    expectations = overall + weight * (means - overall)
    return PopulationMean(data.user_ids, ids.unique(), expectations, stds, overall, between**0.5, within**0.5)


def fit_population_regression(data: RatingData, seed: int = 0) -> PopulationRegression:
    """Regress pictures' mean ratings, weighted by their number, on features; ``seed`` and choices play no part.

    The penalty is the one under which each picture is best predicted by all others. Those predictions tell the noise
    as well, so that validation ratings are not needed.

    Raises:
        DataError: There are no training ratings.
    """
    require_ratings(data)
    ratings = data.train.ratings.double()
    means, counts, places = group_means(ratings, data.train.images)
    shown = data.pictures.features[data.train.images.unique()]
    standardisation = Standardisation.of(shown)
    weights, intercept, others = weighted_ridge(standardisation(shown), means, counts)
    noise = float((ratings - others[places]).square().mean().sqrt())
    return PopulationRegression(data.user_ids, standardisation, weights, float(intercept), noise)


def require_ratings(data: RatingData) -> None:
    """Check that there is something to learn from.

    Raises:
        DataError: There are no training ratings.
    """
    if not len(data.train):
        raise DataError("there are 0 training ratings; a model of ratings needs at least one, choices do not count.")
