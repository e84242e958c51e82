"""People like you: a person's taste is that of the training people who best foretell the person's own ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pamela_rl.rewards.baselines.population_baselines import PopulationRegression
from pamela_rl.rewards.known_users import rows_of, with_row
from pamela_rl.rewards.preference import Pictures
from pamela_rl.rewards.tensor_names import part_of, within
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class Neighbourhood:
    """How neighbours are chosen and weighted.

    Attributes:
        penalty: Of each person's ridge regression, in units of squared distances along the axes.
        count: How many neighbours at most.
        temperature: By which the logarithm of their likelihood is divided; 1 trusts it.
        noise_variance: Of single ratings around a surface, in squared rating units.
        bias_penalty: How many ratings it takes to believe half of a person's mean deviation.
    """

    penalty: float
    count: int
    temperature: float
    noise_variance: float
    bias_penalty: float

    def place(self, surfaces: Tensor, design: Tensor, left: Tensor) -> Tensor:
        """Return a person's own bias and the weighted mean of the neighbours' surfaces, ``(1 + q,)``.

        Without ratings everybody's weight is the same.

        Args:
            surfaces: Of the candidates, ``(p, q)``.
            design: Rated pictures along the axes, ``(n, q)``.
            left: What the population's regression leaves of the ratings, ``(n,)``.
        """
        if not len(left):
            return torch.cat([torch.zeros(1, dtype=torch.float64), surfaces.mean(dim=0)])
        return self.blend(surfaces, *self.compare(surfaces, design, left))

    def compare(self, surfaces: Tensor, design: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each candidate the bias that suits a person best, and how badly both then fit, ``(p,)``."""
        errors = left[:, None] - design @ surfaces.T  # (n, p)
        biases = errors.sum(dim=0) / (len(left) + self.bias_penalty)
        return biases, (errors - biases).square().sum(dim=0) + self.bias_penalty * biases.square()

    def blend(self, surfaces: Tensor, biases: Tensor, misfits: Tensor) -> Tensor:
        """Return biases and surfaces, ``(..., 1 + q)``, weighted by each surface's likelihood of the ratings.

        Args:
            surfaces: Of the candidates, ``(p, q)``.
            biases: By person and candidate, ``(..., p)``.
            misfits: Likewise; infinite for who must not be a neighbour.
        """
        nearest = misfits.topk(min(self.count, len(surfaces)), largest=False)
        weights = (-0.5 * nearest.values / (self.noise_variance * self.temperature)).softmax(dim=-1)
        bias = (weights * biases.gather(-1, nearest.indices)).sum(dim=-1, keepdim=True)
        return torch.cat([bias, (weights[..., None] * surfaces[nearest.indices]).sum(dim=-2)], dim=-1)

    def surfaces(self, gram: Tensor, moment: Tensor) -> Tensor:
        """Return everybody's ridge regression without its bias, ``(u, q)``.

        Args:
            gram: Of the constant and the axes, ``(u, 1 + q, 1 + q)``.
            moment: With what the population's regression leaves, ``(u, 1 + q)``.
        """
        penalties = torch.full((gram.shape[-1],), self.penalty, dtype=torch.float64)
        penalties[0] = self.bias_penalty
        return torch.linalg.solve(gram + penalties.diag(), moment)[:, 1:]


@dataclass(frozen=True)
class NearestUsers:
    """rating = population regression + bias + <surface, z(x)>, the surface a weighted mean of training people's.

    Where features are pictures' identities this is memory-based collaborative filtering.

    Attributes:
        population: The regression for everybody.
        axes: From standardised features to z, ``(features, q)``, float64.
        rule: How neighbours are chosen and weighted.
        surfaces: Of the training people who rated something, ``(p, q)``, float64.
        user_ids: People who can be asked for.
        people: Bias and surface of each, ``(u, 1 + q)``, float64.
        noise: Spread of single ratings around the prediction, in rating units.
    """

    population: PopulationRegression
    axes: Tensor
    rule: Neighbourhood
    surfaces: Tensor
    user_ids: tuple[str, ...]
    people: Tensor
    noise: float

    def predict(self, pictures: Pictures, user_ids: list[str]) -> RewardOutput:
        """Predict each person's rating of each picture, ``(b,)``; without std: neighbours' spread is not calibrated.

        Raises:
            UnknownUserError: The model does not know a person.
        """
        return RewardOutput(self._rate(pictures, self.people[rows_of(user_ids, self.user_ids)]))

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the same spread for everybody, in rating units, ``(b,)``."""
        return torch.full((len(rows_of(user_ids, self.user_ids)),), self.noise)

    def predict_population(self, pictures: Pictures) -> Tensor:
        """Predict for somebody who has rated nothing, ``(b,)``: all surfaces count the same."""
        nobody = self.rule.place(self.surfaces, self.surfaces[:0], self.surfaces.new_zeros(0))
        return self._rate(pictures, nobody.expand(len(pictures), -1))

    def introduce(
        self, user_id: str, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None
    ) -> NearestUsers:
        """Return a model that knows one more person by ratings of a few pictures; demographics are ignored.

        The new person is nobody's neighbour.
        """
        users, people = with_row(user_id, self._place(pictures, ratings), self.user_ids, self.people)
        return replace(self, user_ids=users, people=people)

    def _place(self, pictures: Pictures, ratings: Tensor) -> Tensor:
        rows = self.population.standardisation(pictures.features)
        return self.rule.place(self.surfaces, rows @ self.axes, ratings.double() - self.population.line(rows))

    def _rate(self, pictures: Pictures, people: Tensor) -> Tensor:
        rows = self.population.standardisation(pictures.features)
        bent = people[:, 0] + (people[:, 1:] * (rows @ self.axes)).sum(dim=1)
        return (self.population.line(rows) + bent).float()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that is a tensor, by name."""
        population = within("population", self.population.tensors())
        own = {"axes": self.axes, "surfaces": self.surfaces, "people": self.people}
        return {name: value.contiguous() for name, value in (population | own).items()}

    def facts(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""
        return {
            "population": self.population.facts(),
            "rule": asdict(self.rule),
            "user_ids": list(self.user_ids),
            "noise": self.noise,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> NearestUsers:
        """Return the model that ``tensors`` and ``facts`` describe."""
        return cls(
            PopulationRegression.restore(part_of("population", tensors), facts["population"]),
            tensors["axes"],
            Neighbourhood(**facts["rule"]),
            tensors["surfaces"],
            tuple(facts["user_ids"]),
            tensors["people"],
            facts["noise"],
        )
