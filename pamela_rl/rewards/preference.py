"""The protocol of preference models, and the data they are fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class ImageFeatures:
    """Inputs of preference models, one row per picture.

    Attributes:
        features: Features of image, prompt and their product, as returned by ``FeatureEncoder.encode``,
            ``(n, 3 * dim)``. Models that do not use the parts accept any features.
        metadata: Integer codes of metadata (group, style, type), 0 for unknown, ``(n, m)``; None for pictures without
            metadata, e.g. generated ones.
        ids: Number of each picture, ``(n,)``; None for pictures without ratings.
        parts: Of how many parts of equal width features consist, e.g. 3 for those of image, prompt and their product; a
            model may weigh parts, the first of which is the image's.
    """

    features: Tensor
    metadata: Tensor | None = None
    ids: Tensor | None = None
    parts: int = 1

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Tensor) -> ImageFeatures:
        """Return the pictures of these rows."""
        metadata, ids = (None if part is None else part[rows] for part in (self.metadata, self.ids))
        return ImageFeatures(self.features[rows], metadata, ids, self.parts)


@dataclass(frozen=True)
class RatingTensors:
    """Ratings as tensors, one row per rating; repeats have rows of their own.

    Attributes:
        users: Row of the user of each rating, ``(n,)``.
        images: Row of the picture of each rating, ``(n,)``.
        ratings: ``(n,)``, float64.
    """

    users: Tensor
    images: Tensor
    ratings: Tensor

    def __len__(self) -> int:
        return len(self.ratings)

    def __getitem__(self, rows: Tensor) -> RatingTensors:
        """Return the ratings of these rows."""
        return RatingTensors(self.users[rows], self.images[rows], self.ratings[rows])


@dataclass(frozen=True)
class ChoiceTensors:
    """Choices between two pictures as tensors.

    Attributes:
        users: Row of the user of each choice, ``(n,)``.
        first: Row of picture a, ``(n,)``.
        second: Row of picture b, ``(n,)``.
        outcomes: 1 if a was chosen, 0 if b was, one half for a tie, ``(n,)``, float64.
    """

    users: Tensor
    first: Tensor
    second: Tensor
    outcomes: Tensor

    def __len__(self) -> int:
        return len(self.outcomes)


@dataclass(frozen=True)
class RatingData:
    """Data to fit a model on.

    Attributes:
        images: All pictures. Only those with training ratings may be used for fitting.
        train: Training ratings.
        user_ids: Id of each user row.
        validation: Ratings of other pictures by the same users, for model selection, or None.
        choices: Training choices of the same users, or None.
        demographics: Demographics, indexed by user id, or None.
        scale: The range of ratings.
    """

    images: ImageFeatures
    train: RatingTensors
    user_ids: tuple[str, ...]
    validation: RatingTensors | None = None
    choices: ChoiceTensors | None = None
    demographics: pd.DataFrame | None = None
    scale: RatingScale = field(default_factory=RatingScale)

    def demographics_of(self, user_id: str) -> Mapping[str, Any] | None:
        """Return the demographics of a user, or None."""
        if self.demographics is None or user_id not in self.demographics.index:
            return None
        return {str(key): value for key, value in self.demographics.loc[user_id].to_dict().items()}


class Encoder(Protocol):
    """Turns images and prompts into features."""

    @property
    def name(self) -> str:
        """What ``open_encoder`` takes to open it again."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies the encoder; other features have another fingerprint."""
        ...

    @property
    def reads_prompts(self) -> bool:
        """Whether it has a text tower. Without one, prompts are ignored and features contain none of them."""
        ...

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return features with gradient to the pixels, ``(b, d)``.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.
            prompts: Prompt of each image.
        """
        ...


def feature_parts(encoder: Encoder) -> int:
    """Count the parts of an encoder's features: of the image alone, or of image, prompt and their product."""
    return 3 if encoder.reads_prompts else 1


class PreferenceModel(Protocol):
    """Predicts the ratings of pictures by users. Fitted models are immutable."""

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Known users."""
        ...

    def predict(self, images: ImageFeatures, user_ids: list[str]) -> RewardOutput:
        """Predict the expected rating of each picture by its user, and the std of that expectation, ``(b,)``.

        Raises:
            UnknownUserError: The model does not know a user.
        """
        ...

    def noise_std(self, user_ids: list[str]) -> Tensor:
        """Return the std of single ratings of each user around their expectation, in rating points, ``(b,)``."""
        ...

    def predict_population(self, images: ImageFeatures) -> Tensor:
        """Predict the average rating over users, ``(b,)``."""
        ...

    def introduce(
        self, user_id: str, images: ImageFeatures, ratings: Tensor, demographics: Mapping[str, Any] | None = None
    ) -> PreferenceModel:
        """Return a model with one more user, known by ratings of a few pictures and by demographics.

        Args:
            user_id: The new user. A known user is replaced.
            images: The rated pictures; may be empty.
            ratings: In the units the model was fitted in, ``(n,)``.
            demographics: Demographics; None, missing and unknown values are allowed.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the model, by name."""
        ...

    def config(self) -> dict[str, Any]:
        """Return everything but the tensors, as plain JSON."""
        ...
