"""A published model's score as a reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.types import RewardOutput

Score = Callable[[Tensor, Sequence[str]], Tensor]  # RGB in [0, 1] (b, 3, height, width) fp32, b prompts -> (b,) fp32


@dataclass(frozen=True)
class PopulationReward:
    """Scores pictures the same for all users, without std.

    Attributes:
        name: Name of the reward, e.g. ``pickscore``.
        score: The model.
        device: Device of the model. Pictures are moved to it; scores are returned on the device of the pictures.
    """

    name: str
    score: Score
    device: torch.device

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score pictures.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``; gradients reach them.
            prompts: Prompt of each picture.
            user_ids: User of each picture; ignored.

        Returns:
            Scores in the model's own units, ``(b,)``.

        Raises:
            DataError: The numbers of pictures, prompts and user ids differ, or the pictures have a wrong shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise DataError(f"{self.name} was given images of shape {tuple(images.shape)}; give (b, 3, height, width).")
        if not len(images) == len(prompts) == len(user_ids):
            raise DataError(
                f"{self.name} was given {len(images)} images, {len(prompts)} prompts and {len(user_ids)} user ids; "
                "give one prompt and one user id for every image."
            )
        scores = self.score(images.to(self.device, torch.float32), prompts)
        return RewardOutput(scores.to(images.device))
