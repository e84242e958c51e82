"""Measure a fitted model on ratings it has not seen: of people it knows, and of newcomers who answer a few first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.agreement.per_person import Agreement, agreement, mismatched
from pamela_rl.agreement.per_picture import PopulationAgreement, population_agreement
from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.preference import Pictures, PreferenceModel

Reported = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Rated:
    """Ratings of pictures by people named by their ids.

    Attributes:
        pictures: One row a rating.
        ratings: ``(n,)``, float64.
        user_ids: Whose, ``(n,)``.
        image_ids: Numbers that tell the pictures apart, ``(n,)``.
    """

    pictures: Pictures
    ratings: Tensor
    user_ids: NDArray[np.object_]
    image_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ratings)

    def __getitem__(self, rows: NDArray[np.int64]) -> Rated:
        """Return some of the ratings."""
        places = torch.from_numpy(rows)
        return Rated(self.pictures[places], self.ratings[places], self.user_ids[rows], self.image_ids[rows])

    def of(self, user_id: str) -> Rated:
        """Return one person's ratings, in their order."""
        return self[np.flatnonzero(self.user_ids == user_id)]


def introduce_all(
    model: PreferenceModel, shown: Rated, user_ids: Sequence[str], count: int, reported: Reported
) -> PreferenceModel:
    """Return a model that knows newcomers from the first ``count`` of their ratings in ``shown``."""
    for user in user_ids:
        mine = shown.of(user)[np.arange(count)] if count < len(shown.of(user)) else shown.of(user)
        model = model.introduce(user, mine.pictures, mine.ratings, reported(user))
    return model


@torch.no_grad()
def predictions(
    model: PreferenceModel, rated: Rated, user_ids: Sequence[str] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the model's expectation of each rating, and the spread of single ratings around it, ``(n,)`` each.

    Args:
        model: Knows everybody.
        rated: What to predict.
        user_ids: Through whose eyes, ``(n,)``; None is those who rated.
    """
    names = [str(user) for user in rated.user_ids] if user_ids is None else list(user_ids)
    output, noise = model.predict(rated.pictures, names), model.noise_std(names).double()
    spread = noise if output.std is None else torch.hypot(output.std.double(), noise)
    return output.mean.double().numpy(), spread.numpy()


def personal_agreement(
    name: str, model: PreferenceModel, rated: Rated, scale: RatingScale, seed: int = 0, min_ratings: int = 5
) -> Agreement:
    """Measure predictions for each person with that person's ratings."""
    mean, std = predictions(model, rated)
    return agreement(name, mean, rated.ratings.numpy(), rated.user_ids, min_ratings, seed, std, scale)


@torch.no_grad()
def controls(
    model: PreferenceModel, rated: Rated, scale: RatingScale, seed: int = 0, min_ratings: int = 5
) -> list[Agreement]:
    """Measure the same model without what is personal: its population, and everybody with somebody else's taste."""
    given, population = rated.ratings.numpy(), model.predict_population(rated.pictures).double().numpy()
    _, people = np.unique(rated.user_ids, return_inverse=True)
    rows = [agreement("its population's taste", population, given, rated.user_ids, min_ratings, seed)]
    if people.max(initial=0) > 0:
        names = [str(user) for user in np.unique(rated.user_ids)[mismatched(people, seed)]]
        mean, std = predictions(model, rated, names)
        rows.append(agreement("somebody else's taste", mean, given, rated.user_ids, min_ratings, seed, std, scale))
    return rows


@torch.no_grad()
def population(name: str, model: PreferenceModel, rated: Rated, seed: int = 0) -> PopulationAgreement:
    """Measure what the model says of people on average with pictures' mean ratings."""
    predicted = model.predict_population(rated.pictures).double().numpy()
    return population_agreement(name, predicted, rated.ratings.numpy(), rated.user_ids, rated.image_ids, seed=seed)


def learning_curve(
    name: str, model: PreferenceModel, shown: Rated, held: Rated, counts: Sequence[int], reported: Reported,
    scale: RatingScale,
) -> dict[int, Agreement]:  # fmt: skip
    """Measure newcomers on ``held`` after each number of their ratings in ``shown``."""
    people = [str(user) for user in np.unique(held.user_ids)]
    return {
        count: personal_agreement(name, introduce_all(model, shown, people, count, reported), held, scale)
        for count in counts
    }
