"""A weighted sum of rewards, each person's on the scale of what it says of the base model's images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pamela_rl.rewards.choice import RewardPart
from pamela_rl.rewards.weighted import WeightedPart, WeightedReward
from pamela_rl.storage import writing
from pamela_rl.types import Reward, RewardOutput


@dataclass(frozen=True)
class Reference:
    """Images of the base model, by which rewards are put on one scale.

    Attributes:
        images: RGB, 8 bits, ``(n, 3, height, width)``.
        prompts: Of each.
    """

    images: Tensor
    prompts: tuple[str, ...]

    @classmethod
    def of(cls, images: Tensor, prompts: Sequence[str]) -> Reference:
        """Take images, RGB in [0, 1], at the precision of a file."""
        return cls((images.clamp(0, 1) * 255).round().to("cpu", torch.uint8), tuple(prompts))

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read what ``write`` wrote."""
        with safe_open(str(path), framework="pt") as file:
            return cls(file.get_tensor("images"), tuple(json.loads(file.metadata()["prompts"])))

    def write(self, path: Path) -> None:
        """Keep them for a run that is resumed, which needs the same scale.

        Raises:
            StorageError: They cannot be written.
        """
        content = save({"images": self.images}, metadata={"prompts": json.dumps(self.prompts)})
        with writing("the images that rewards are compared by", path):
            partial = path.with_suffix(f".{uuid4().hex}.partial")  # several processes may write the same
            partial.write_bytes(content)
            partial.replace(path)


class CombinedReward:
    """The sum of ``weight * (score - mean) / std`` of its parts; a part that is not normalised has mean 0 and std 1.

    Means and standard deviations are over images of the base model, for each person by themselves, so that nobody's training
    depends on who else is there; they are measured when a person is first scored, and the same at every start.

    Args:
        parts: Rewards and how they count, by name.
        reference: The images; None where no part is normalised.
    """

    def __init__(self, parts: Mapping[str, tuple[Reward, RewardPart]], reference: Reference | None):
        self.parts = dict(parts)
        self._reference = reference
        self._of_people: dict[str, WeightedReward] = {}

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score images.

        Returns:
            The sum, its std, and each part's score, ``(b,)`` each, as ``WeightedReward`` gives them.

        Raises:
            ConfigError: A part's scores of the base model's images are all equal, or some are not finite.
        """
        rows = {user: [row for row, other in enumerate(user_ids) if other == user] for user in dict.fromkeys(user_ids)}
        if len(rows) == 1:
            return self._of(user_ids[0], images.device)(images, prompts, user_ids)
        outputs = [
            self._of(user, images.device)(images[places], [prompts[place] for place in places], [user] * len(places))
            for user, places in rows.items()
        ]
        order = torch.tensor([place for places in rows.values() for place in places], device=images.device).argsort()

        def joined(values: Sequence[Tensor]) -> Tensor:
            return torch.cat(list(values))[order]

        stds = [output.std for output in outputs if output.std is not None]
        parts = {name: joined([(output.parts or {})[name] for output in outputs]) for name in self.parts}
        return RewardOutput(
            joined([output.mean for output in outputs]), joined(stds) if stds else None, parts, outputs[0].weights
        )

    def _of(self, user: str, device: torch.device) -> WeightedReward:
        """The sum on the scale of one person."""
        if user not in self._of_people:
            scaled = {name: (reward, part.weight) for name, (reward, part) in self.parts.items() if part.normalise}
            measured: Mapping[str, WeightedPart] = {}
            if scaled:
                assert self._reference is not None
                images, prompts = self._reference.images.to(device) / 255, self._reference.prompts
                measured = WeightedReward.calibrated(scaled, images, prompts, [user] * len(images)).parts
            self._of_people[user] = WeightedReward(
                {
                    name: measured.get(name) or WeightedPart(reward, part.weight, 0.0, 1.0)
                    for name, (reward, part) in self.parts.items()
                }
            )
        return self._of_people[user]
