"""The personal reward: an encoder and a head, as one callable that can be saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.features import FeatureEncoder
from pamela_rl.rewards.taste_basis import TasteBasis, TasteFeatures
from pamela_rl.storage import publish
from pamela_rl.types import RewardOutput


class PersonalReward:
    """Scores pictures for people, in the units of the ratings it was fitted to."""

    def __init__(self, encoder: FeatureEncoder, basis: TasteBasis):
        self.encoder = encoder
        self.basis = basis

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
        # the head is small: it stays where it was fitted, and the features come to it
        features = self.encoder.encode(images, prompts).to(self.basis.network.centre.device)
        output = self.basis.predict(features, user_ids)
        std = None if output.std is None else output.std.to(images.device)
        return RewardOutput(output.mean.to(images.device), std)

    def save(self, folder: str | Path) -> None:
        """Write ``reward.safetensors`` and ``reward.json``; the encoder stays where it is, named by its fingerprint."""
        basis = self.basis
        tensors = {f"network.{k}": v for k, v in basis.network.state_dict().items()}
        tensors |= {
            "prior_map": basis.prior_map,
            "prior_covariance": basis.prior_covariance,
            "means": basis.means,
            "covariances": basis.covariances,
        }
        with publish(Path(folder)) as target:
            save_file({k: v.contiguous() for k, v in tensors.items()}, str(target / "reward.safetensors"))
            facts = {
                "kind": "taste basis",
                "encoder": self.encoder.fingerprint,
                "noise_variance": basis.noise_variance,
                "user_ids": list(basis.user_ids),
                "demographics": basis.coding.to_json(),
            }
            (target / "reward.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, encoder: FeatureEncoder) -> PersonalReward:
        """Read what ``save`` wrote.

        Raises:
            ConfigError: There is no reward there, or it was fitted on another encoder's features.
        """
        path = Path(folder)
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
        state = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        hidden, feature_dim = state["trunk.0.weight"].shape
        network = TasteFeatures(feature_dim, len(state["taste.bias"]), hidden)
        network.load_state_dict(state)
        basis = TasteBasis(
            network.eval().requires_grad_(False),
            DemographicsCoding.from_json(facts["demographics"]),
            tensors["prior_map"],
            tensors["prior_covariance"],
            facts["noise_variance"],
            tuple(facts["user_ids"]),
            tensors["means"],
            tensors["covariances"],
        )
        return cls(encoder, basis)
