"""What every model of people's preferences takes and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class Pictures:
    """What models may know of pictures, one row each.

    Attributes:
        features: Of picture, prompt and their product, as ``FeatureEncoder.encode`` lays them out, ``(n, 3 * dim)``;
            any others for models that do not look at the parts.
        metadata: Codes of what is known of the picture besides (group, style, type), 0 where unknown, ``(n, m)``; None
            where nothing is, as for pictures that were just drawn.
        ids: Numbers that tell pictures apart, ``(n,)``; None for pictures that nobody has rated.
    """

    features: Tensor
    metadata: Tensor | None = None
    ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Tensor) -> Pictures:
        """Return some of the pictures, in the order of ``rows``."""
        metadata, ids = (None if part is None else part[rows] for part in (self.metadata, self.ids))
        return Pictures(self.features[rows], metadata, ids)


@dataclass(frozen=True)
class Observations:
    """Ratings as numbers: who, which row of the pictures, how much. A repeat is a row of its own.

    Attributes:
        users: Row of each rater in the list of users, ``(n,)``.
        images: Row of each picture, ``(n,)``.
        ratings: ``(n,)``, float64.
    """

    users: Tensor
    images: Tensor
    ratings: Tensor

    def __len__(self) -> int:
        return len(self.ratings)

    def __getitem__(self, rows: Tensor) -> Observations:
        """Return some of the ratings."""
        return Observations(self.users[rows], self.images[rows], self.ratings[rows])


@dataclass(frozen=True)
class Choices:
    """Choices between two pictures as numbers.

    Attributes:
        users: Row of each person in the list of users, ``(n,)``.
        first: Row of picture a, ``(n,)``.
        second: Row of picture b, ``(n,)``.
        outcomes: 1 where a was chosen, 0 where b was, one half for a tie, ``(n,)``, float64.
    """

    users: Tensor
    first: Tensor
    second: Tensor
    outcomes: Tensor

    def __len__(self) -> int:
        return len(self.outcomes)


@dataclass(frozen=True)
class RatingData:
    """Everything a model may be fitted to.

    Attributes:
        pictures: All of them; only the rows that training ratings name may be looked at while fitting.
        train: Ratings to learn from.
        user_ids: The people that ``users`` count.
        validation: Ratings of the same people on other pictures, to choose by; None where there are none.
        choices: Choices of the same people to learn from, or None.
        people: What they report, indexed by user id, or None.
        scale: What ratings can be.
    """

    pictures: Pictures
    train: Observations
    user_ids: tuple[str, ...]
    validation: Observations | None = None
    choices: Choices | None = None
    people: pd.DataFrame | None = None
    scale: RatingScale = field(default_factory=RatingScale)

    def reported(self, user_id: str) -> Mapping[str, Any] | None:
        """Return what a person reports, or None."""
        if self.people is None or user_id not in self.people.index:
            return None
        return {str(key): value for key, value in self.people.loc[user_id].to_dict().items()}


class Encoder(Protocol):
    """Turns pictures and prompts into features."""

    @property
    def fingerprint(self) -> str:
        """What tells this encoder's features from any other's."""
        ...

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return features with gradient to the pixels.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: What was asked for, one a picture.
        """
        ...


class PreferenceModel(Protocol):
    """Predicts what people would rate pictures. Fitted models are values: nothing changes them."""

    @property
    def user_ids(self) -> tuple[str, ...]:
        """People the model knows."""
        ...

    def predict(self, pictures: Pictures, user_ids: list[str]) -> RewardOutput:
        """Predict each person's rating of each picture, with the uncertainty of that expectation, ``(b,)``.

        Raises:
            UnknownUserError: The model does not know a person.
        """
        ...

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return how far single ratings of each person spread around their expectation, in rating units, ``(b,)``."""
        ...

    def predict_population(self, pictures: Pictures) -> Tensor:
        """Predict what people on average would rate, ``(b,)``."""
        ...

    def introduce(
        self, user_id: str, pictures: Pictures, ratings: Tensor, reported: Mapping[str, Any] | None = None
    ) -> PreferenceModel:
        """Return a model that knows one more person, from their ratings of a few pictures and what they report.

        Args:
            user_id: Whose; somebody already known is known anew.
            pictures: The rated ones; none is ordinary.
            ratings: In the units the model was fitted in, ``(n,)``.
            reported: Demographics; None, missing and unheard-of values are ordinary.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return every number of the model, by name."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return everything else, as plain JSON."""
        ...
