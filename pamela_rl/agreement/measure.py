"""Agreement of a fitted model with held-out ratings of known users, and of newcomers with a few support ratings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.agreement.per_image import PopulationAgreement, population_agreement
from pamela_rl.agreement.per_user import Agreement, agreement, mismatched
from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.preference import ImageFeatures, PreferenceModel

Demographics = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True)
class UserRatings:
    """Ratings with user ids and the features of the rated pictures.

    Attributes:
        images: Features of the picture of each rating.
        ratings: ``(n,)``, float64.
        user_ids: User of each rating, ``(n,)``.
        image_ids: Number of the picture of each rating, ``(n,)``.
    """

    images: ImageFeatures
    ratings: Tensor
    user_ids: NDArray[np.object_]
    image_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ratings)

    def __getitem__(self, rows: NDArray[np.int64]) -> UserRatings:
        """Return the ratings of these rows."""
        index = torch.from_numpy(rows)
        return UserRatings(self.images[index], self.ratings[index], self.user_ids[rows], self.image_ids[rows])

    def of(self, user_id: str) -> UserRatings:
        """Return the ratings of one user, in their order."""
        return self[np.flatnonzero(self.user_ids == user_id)]


def introduce_users(
    model: PreferenceModel,
    support: UserRatings,
    user_ids: Sequence[str],
    num_ratings: int,
    demographics_of: Demographics,
) -> PreferenceModel:
    """Introduce newcomers to a model by the first ``num_ratings`` of their ratings in ``support``."""
    for user in user_ids:
        mine = support.of(user)
        given = mine[np.arange(min(num_ratings, len(mine)))]
        model = model.introduce(user, given.images, given.ratings, demographics_of(user))
    return model


@torch.no_grad()
def predictions(
    model: PreferenceModel, rated: UserRatings, user_ids: Sequence[str] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the expected rating and the standard deviation of a single rating around it, ``(n,)`` each.

    Args:
        model: A model that knows all users.
        rated: Ratings to predict.
        user_ids: Users to predict for, ``(n,)``; None predicts for the users who rated.
    """
    names = [str(user) for user in rated.user_ids] if user_ids is None else list(user_ids)
    output, noise = model.predict(rated.images, names), model.noise_std(names).double()
    spread = noise if output.std is None else torch.hypot(output.std.double(), noise)
    return output.mean.double().numpy(), spread.numpy()


def personal_agreement(
    name: str, model: PreferenceModel, rated: UserRatings, scale: RatingScale, seed: int = 0, min_ratings: int = 5
) -> Agreement:
    """Measure the predictions for each user on that user's ratings."""
    mean, std = predictions(model, rated)
    return agreement(name, mean, rated.ratings.numpy(), rated.user_ids, min_ratings, seed, std, scale)


@torch.no_grad()
def controls(
    model: PreferenceModel, rated: UserRatings, scale: RatingScale, seed: int = 0, min_ratings: int = 5
) -> list[Agreement]:
    """Measure two controls: the model's prediction for the population, and each user with another user's taste."""
    actual, population = rated.ratings.numpy(), model.predict_population(rated.images).double().numpy()
    _, users = np.unique(rated.user_ids, return_inverse=True)
    rows = [agreement("its population's taste", population, actual, rated.user_ids, min_ratings, seed)]
    if users.max(initial=0) > 0:
        names = [str(user) for user in np.unique(rated.user_ids)[mismatched(users, seed)]]
        mean, std = predictions(model, rated, names)
        rows.append(agreement("somebody else's taste", mean, actual, rated.user_ids, min_ratings, seed, std, scale))
    return rows


@torch.no_grad()
def population(name: str, model: PreferenceModel, rated: UserRatings, seed: int = 0) -> PopulationAgreement:
    """Measure the model's prediction for the population on the mean ratings of pictures."""
    predicted = model.predict_population(rated.images).double().numpy()
    return population_agreement(name, predicted, rated.ratings.numpy(), rated.user_ids, rated.image_ids, seed=seed)


def learning_curve(
    name: str, model: PreferenceModel, support: UserRatings, held_out: UserRatings, counts: Sequence[int],
    demographics_of: Demographics, scale: RatingScale,
) -> dict[int, Agreement]:  # fmt: skip
    """Measure newcomers on ``held_out`` for each number of support ratings."""
    users = [str(user) for user in np.unique(held_out.user_ids)]
    return {
        num_ratings: personal_agreement(
            name, introduce_users(model, support, users, num_ratings, demographics_of), held_out, scale
        )
        for num_ratings in counts
    }
