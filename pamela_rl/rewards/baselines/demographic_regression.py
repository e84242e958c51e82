"""What people report and nothing else: a linear model in which demographics bend the population's regression."""

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
from pamela_rl.rewards.known_users import rows_of, with_row
from pamela_rl.rewards.observations import hold_out_pictures
from pamela_rl.rewards.preference import Observations, Pictures, RatingData
from pamela_rl.rewards.tensor_names import part_of, within
from pamela_rl.types import RewardOutput

NUM_AXES = 16


@dataclass(frozen=True)
class DemographicRegression:
    """rating = population regression + sum over demographic columns j of d_j <v_j, [1, z(x)]>.

    Attributes:
        population: The regression for everybody.
        axes: From standardised features to z, ``(features, q)``, float64.
        coding: Of demographics.
        weights: v, one row a column of the coding without its constant, ``(columns, 1 + q)``, float64.
        user_ids: People who can be asked for.
        people: Their d, ``(u, columns)``, float64; zeros where nothing is known.
        noise: Spread of single ratings around the prediction, on pictures that were not trained on, in rating units.
    """

    population: PopulationRegression
    axes: Tensor
    coding: DemographicsCoding
    weights: Tensor
    user_ids: tuple[str, ...]
    people: Tensor
    noise: float

    def predict(self, pictures: Pictures, user_ids: list[str]) -> RewardOutput:
        """Predict each person's rating of each picture, ``(b,)``; without std: the line has none.

        Raises:
            UnknownUserError: The model does not know a person.
        """
        people = self.people[rows_of(user_ids, self.user_ids)]
        rows = self.population.standardisation(pictures.features)
        bent = ((people @ self.weights) * with_constant(rows @ self.axes)).sum(dim=1)
        return RewardOutput((self.population.line(rows) + bent).float())

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the same spread for everybody, in rating units, ``(b,)``."""
        return torch.full((len(rows_of(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, pictures: Pictures) -> Tensor:
        """Predict what people on average would rate, ``(b,)``: the population regression."""
        return self.population.predict_population(pictures)

    def introduce(
        self, user_id: str, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None
    ) -> DemographicRegression:
        """Return a model that knows one more person by what they report; pictures and ratings are ignored."""
        users, people = with_row(user_id, self.coding.encode(reported)[1:], self.user_ids, self.people)
        return replace(self, user_ids=users, people=people)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that is a tensor, by name."""
        population = within("population", self.population.tensors())
        own = {"axes": self.axes, "weights": self.weights, "people": self.people}
        return {name: value.contiguous() for name, value in (population | own).items()}

    def facts(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""
        return {
            "population": self.population.facts(),
            "demographics": self.coding.to_json(),
            "user_ids": list(self.user_ids),
            "noise": self.noise,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> DemographicRegression:
        """Return the model that ``tensors`` and ``facts`` describe."""
        return cls(
            PopulationRegression.restore(part_of("population", tensors), facts["population"]),
            tensors["axes"],
            DemographicsCoding.from_json(facts["demographics"]),
            tensors["weights"],
            tuple(facts["user_ids"]),
            tensors["people"],
            facts["noise"],
        )


def fit_demographic_regression(data: RatingData, seed: int = 0) -> DemographicRegression:
    """Fit the population's regression, and then what demographics explain of what it leaves.

    Choices are not looked at.

    Args:
        data: Validation ratings choose the penalty and tell the noise. Without them a tenth of the training pictures,
            with every rating of each, is held out for that.
        seed: Of what is held out.

    Raises:
        DataError: There is nothing to learn from, or to choose by.
    """
    require_ratings(data)
    train, held = (data.train, data.validation) if data.validation else hold_out_pictures(data.train, seed)
    if not len(train):
        raise DataError(
            f"all {len(data.train)} ratings are of one picture; a regression needs ratings of at least two."
        )
    population = fit_population_regression(replace(data, train=train))
    coding = DemographicsCoding.of(data.people)
    people = torch.stack([coding.encode(data.reported(user))[1:] for user in data.user_ids])
    rows = population.standardisation(data.pictures.features)
    axes = leading_axes(rows[train.images.unique()], NUM_AXES)

    def parts(ratings: Observations) -> tuple[Tensor, Tensor]:
        shown = rows[ratings.images]
        return with_constant(shown @ axes), ratings.ratings.double() - population.line(shown)

    gram, moment = moments(*parts(train), train.users, len(people))
    choices = _ridges(torch.einsum("ui,uj,uab->iajb", people, people, gram), torch.einsum("ui,ua->ia", people, moment))
    design, left = parts(held)
    guesses = torch.einsum("ni,pia,na->np", people[held.users], choices, design)
    errors = (left[:, None] - guesses).square().mean(dim=0)
    best = int(errors.argmin())
    return DemographicRegression(
        population, axes, coding, choices[best], data.user_ids, people, float(errors[best].sqrt())
    )


def _ridges(gram: Tensor, moment: Tensor) -> Tensor:
    """Solve for every penalty, ``(penalties, columns, k)``, given ``(columns, k, columns, k)`` and ``(columns, k)``."""
    values, vectors = torch.linalg.eigh(gram.flatten(2).flatten(0, 1))
    if not len(values):
        return moment.expand(len(PENALTIES), *moment.shape)
    shrunk = (vectors.T @ moment.flatten()) / (values.clamp(min=0) + PENALTIES[:, None] * values[-1].clamp(min=1e-12))
    return (shrunk @ vectors.T).unflatten(1, moment.shape)
