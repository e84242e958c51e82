"""The personal reward: an encoder and a fitted preference model as one callable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.models import RESTORE
from pamela_rl.rewards.preference import Encoder, ImageFeatures, PreferenceModel
from pamela_rl.rewards.saturation import saturated
from pamela_rl.rewards.saved import CONFIG, TENSORS, SavedReward, unreadable
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.storage import publish, write_tensors
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class FittedOn:
    """The data that a model was fitted on, which its judge must not share.

    Attributes:
        users: Users with ratings in it.
        images: Pictures with ratings in it.
        seed: Of the fit.
        scale: Of the ratings.
        prompts: Whether images had the prompts they were made for. If not, prompts are ignored in scoring too: a model
            fitted without them does not know what they mean for a rating.
        bounded: Whether there were ratings, so that predictions are on the scale and end where it ends; choices alone have
            a scale without ends.
        answers: A digest of each user's answers, by which it shows whose changed.
    """

    users: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    seed: int = 0
    scale: RatingScale = field(default_factory=RatingScale)
    prompts: bool = True
    bounded: bool = False
    answers: Mapping[str, str] = field(default_factory=dict)

    def with_answers(self, user_id: str, digest: str) -> FittedOn:
        """Return the same with more answers of a user."""
        both = hashlib.sha256(f"{self.answers.get(user_id, '')}{digest}".encode()).hexdigest()[:16]
        return replace(self, answers={**self.answers, user_id: both})

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "users": sorted(self.users),
            "images": sorted(self.images),
            "seed": self.seed,
            "scale": asdict(self.scale),
            "prompts": self.prompts,
            "bounded": self.bounded,
            "answers": dict(self.answers),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FittedOn:
        """Read what ``to_json`` returned."""
        users, images, scale = frozenset(data["users"]), frozenset(data["images"]), RatingScale(**data["scale"])
        bounded, answers = bool(data["bounded"]), dict(data["answers"])
        return cls(users, images, int(data["seed"]), scale, bool(data["prompts"]), bounded, answers)


class PersonalReward:
    """Predicts ratings of pictures by users, in the units of the ratings it was fitted on."""

    def __init__(self, encoder: Encoder, model: PreferenceModel, fitted_on: FittedOn | None = None):
        self.encoder = encoder
        self.model = model
        self.fitted_on = fitted_on or FittedOn()
        self._elsewhere: dict[torch.device, TasteBasis] = {}

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Predict the rating of each picture by its user, cut off at the ends of the scale (see ``saturated``).

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``; gradients reach them.
            prompts: Prompt of each picture.
            user_ids: User of each picture.

        Returns:
            Expected rating and its std, ``(b,)``.

        Raises:
            UnknownUserError: The reward does not know a user.
        """
        model, features = self._there(self._encode(images, prompts))
        output = model.predict(features, list(user_ids))
        if self.fitted_on.bounded:
            output = saturated(output, self.fitted_on.scale)
        std = None if output.std is None else output.std.to(images.device)
        return RewardOutput(output.mean.to(images.device), std)

    def features(self, images: Tensor, prompts: Sequence[str]) -> ImageFeatures:
        """Encode images as those were that the model was fitted on, without prompts if it was; features come to the CPU."""
        return ImageFeatures(self._encode(images, prompts).cpu())

    def _encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.encoder.encode(images, prompts if self.fitted_on.prompts else [""] * len(prompts))

    def _there(self, features: Tensor) -> tuple[PreferenceModel, ImageFeatures]:
        """The model and features on one device: the features' own, or for models of numpy the CPU."""
        if features.device.type == "cpu" or not isinstance(self.model, TasteBasis):
            return self.model, ImageFeatures(features.cpu())
        if features.device not in self._elsewhere:
            self._elsewhere[features.device] = self.model.on(features.device)
        return self._elsewhere[features.device], ImageFeatures(features)

    def ratings_by(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> dict[str, Tensor]:
        """Predict what each of some users thinks of all pictures, which are encoded once, ``(b,)`` each.

        Raises:
            UnknownUserError: The reward does not know a user.
        """
        features = self.features(images, prompts)
        return {user: self.model.predict(features, [user] * len(images)).mean for user in user_ids}

    def introduce(
        self,
        user_id: str,
        images: Tensor,
        prompts: Sequence[str],
        ratings: Sequence[float],
        demographics: Mapping[str, Any] | None = None,
    ) -> PersonalReward:
        """Return a reward that knows one more user, from their ratings of a few images, in closed form.

        Args:
            user_id: Of the newcomer; a known user is replaced.
            images: The rated ones, RGB in [0, 1], ``(n, 3, height, width)``.
            prompts: One an image.
            ratings: On the scale of the reward's own ratings, one an image.
            demographics: What the user reports, or None.

        Raises:
            ConfigError: There is not one prompt and one rating for each image.
        """
        if not len(images) == len(prompts) == len(ratings):
            raise ConfigError(
                f"there are {len(images)} images, {len(prompts)} prompts and {len(ratings)} ratings of {user_id!r}; give one "
                "prompt and one rating for each image."
            )
        with torch.no_grad():
            features = self.features(images, prompts)
        given = torch.tensor(list(ratings), dtype=torch.float64)
        digest = hashlib.sha256(features.features.numpy().tobytes() + given.numpy().tobytes()).hexdigest()[:16]
        model = self.model.introduce(user_id, features, given, demographics)
        return PersonalReward(self.encoder, model, self.fitted_on.with_answers(user_id, digest))

    def save(self, folder: str | Path) -> None:
        """Write ``reward.safetensors`` and ``reward.json``; the encoder is not saved, only its name and fingerprint."""
        with publish(Path(folder)) as target:
            tensors = {name: value.contiguous() for name, value in self.model.tensors().items()}
            write_tensors(target / TENSORS, tensors)
            config = {
                "kind": type(self.model).__name__,
                "encoder": self.encoder.fingerprint,
                "encoder_name": self.encoder.name,
                "fitted_on": self.fitted_on.to_json(),
                "model": self.model.config(),
            }
            (target / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, encoder: Encoder) -> PersonalReward:
        """Read what ``save`` wrote.

        Raises:
            ConfigError: There is no reward there, or it was fitted on another encoder's features.
        """
        saved = SavedReward.read(folder)
        try:
            tensors = load_file(str(saved.folder / TENSORS))
        except (OSError, ValueError, SafetensorError) as error:
            raise unreadable(saved.folder, error) from error
        if saved.encoder != encoder.fingerprint:
            raise ConfigError(
                f"the reward in {saved.folder} was fitted on features of encoder {saved.encoder}, not of "
                f"{encoder.fingerprint}; give the encoder it was fitted with, or fit it again."
            )
        if saved.kind not in RESTORE:
            raise ConfigError(
                f"the reward in {saved.folder} is of kind {saved.kind!r}; this version knows {', '.join(RESTORE)}."
            )
        try:
            model = RESTORE[saved.kind](tensors, saved.config["model"])
            fitted_on = FittedOn.from_json(saved.config["fitted_on"])
        except KeyError as error:
            raise ConfigError(
                f"the reward in {saved.folder} lacks {error}, so another version saved it; fit it again."
            ) from error
        return cls(encoder, model, fitted_on)
