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
    """Scores pictures as one model does for everybody: the same for all people, without an uncertainty.

    Attributes:
        name: Of the reward, e.g. ``pickscore``.
        score: The model.
        device: Where the model lives; pictures are taken there, scores come back to where the pictures are.
    """

    name: str
    score: Score
    device: torch.device

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score pictures.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``; gradients reach them.
            prompts: What was asked for, one a picture.
            user_ids: For whom, one a picture; makes no difference.

        Returns:
            Scores in the model's own units, ``(b,)``.

        Raises:
            DataError: There are not as many prompts or people as pictures, or they are no pictures.
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
