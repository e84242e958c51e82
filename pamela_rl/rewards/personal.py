"""The personal reward: an encoder and a fitted model, as one callable that can be saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.models import RESTORE
from pamela_rl.rewards.preference import Encoder, Pictures, PreferenceModel
from pamela_rl.storage import publish, recover
from pamela_rl.types import RewardOutput


@dataclass(frozen=True)
class FittedOn:
    """What a model learned from: what a judge of it must not have seen.

    Attributes:
        users: People whose ratings it learned from.
        images: Pictures it was shown ratings of.
        seed: Of the fit.
    """

    users: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {"users": sorted(self.users), "images": sorted(self.images), "seed": self.seed}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FittedOn:
        """Read what ``to_json`` returned."""
        return cls(frozenset(data["users"]), frozenset(data["images"]), int(data["seed"]))


class PersonalReward:
    """Scores pictures for people, in the units of the ratings it was fitted to."""

    def __init__(self, encoder: Encoder, model: PreferenceModel, fitted_on: FittedOn | None = None):
        self.encoder = encoder
        self.model = model
        self.fitted_on = fitted_on or FittedOn()

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Predict each person's rating of each picture.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``; gradients reach them.
            prompts: What was asked for.
            user_ids: Whose rating.

        Returns:
            Expected rating and the model's own uncertainty of it, ``(b,)``.

        Raises:
            UnknownUserError: The reward was not fitted to a person.
        """
        # the model is small: it stays on the CPU, where it was fitted, and the features come to it
        output = self.model.predict(Pictures(self.encoder.encode(images, prompts).cpu()), list(user_ids))
        std = None if output.std is None else output.std.to(images.device)
        return RewardOutput(output.mean.to(images.device), std)

    def save(self, folder: str | Path) -> None:
        """Write ``reward.safetensors`` and ``reward.json``; the encoder stays where it is, named by its fingerprint."""
        with publish(Path(folder)) as target:
            tensors = {name: value.contiguous() for name, value in self.model.tensors().items()}
            save_file(tensors, str(target / "reward.safetensors"))
            facts = {
                "kind": type(self.model).__name__,
                "encoder": self.encoder.fingerprint,
                "fitted_on": self.fitted_on.to_json(),
                "model": self.model.facts(),
            }
            (target / "reward.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, encoder: Encoder) -> PersonalReward:
        """Read what ``save`` wrote.

        Raises:
            ConfigError: There is no reward there, or it was fitted on another encoder's features.
        """
        path = recover(Path(folder))
        try:
            facts = json.loads((path / "reward.json").read_text(encoding="utf-8"))
            tensors = load_file(str(path / "reward.safetensors"))
        except (OSError, ValueError, SafetensorError) as error:
            raise ConfigError(f"no personal reward can be read from {path} ({error}); fit one first.") from error
        if facts["encoder"] != encoder.fingerprint:
            raise ConfigError(
                f"the reward in {path} was fitted on features of encoder {facts['encoder']}, not of "
                f"{encoder.fingerprint}; give the encoder it was fitted with, or fit it again."
            )
        if facts["kind"] not in RESTORE:
            raise ConfigError(
                f"the reward in {path} is of kind {facts['kind']!r}; this version knows {', '.join(RESTORE)}."
            )
        return cls(encoder, RESTORE[facts["kind"]](tensors, facts["model"]), FittedOn.from_json(facts["fitted_on"]))
