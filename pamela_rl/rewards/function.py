"""A Python function in a file as a reward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pamela_rl.errors import DataError
from pamela_rl.plugins import load_function
from pamela_rl.rewards.choice import FUNCTION
from pamela_rl.types import RewardOutput

Metadata = Mapping[str, Mapping[str, Any]]


class FunctionReward:
    """Scores images by ``reward(images, prompts, user_ids)`` of a file, or ``reward(images, prompts, user_ids, metadata)``.

    The function gets images, RGB in [0, 1], ``(b, 3, height, width)``, and a list each of prompts, users and, if it has a
    parameter of that name, metadata: for each prompt what the prompt file says of it. It returns a score an image, as a
    tensor ``(b,)`` or as numbers; where gradients are to reach the images, as a tensor.

    Args:
        path: The file.
        metadata: What the prompt file says, by prompt.

    Raises:
        ConfigError: There is no such file, it cannot be run, or it has no such function.
    """

    def __init__(self, path: Path, metadata: Metadata):
        self._path, self._metadata = path, metadata
        self._function = load_function(path, FUNCTION, "reward")
        self._asks = "metadata" in inspect.signature(self._function).parameters

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score images.

        Raises:
            DataError: The function does not return a score an image.
        """
        told = {"metadata": [dict(self._metadata.get(prompt, {})) for prompt in prompts]} if self._asks else {}
        scores = torch.as_tensor(self._function(images, list(prompts), list(user_ids), **told))
        if scores.shape != (len(images),):
            raise DataError(
                f"{FUNCTION} in {self._path} was given {len(images)} images and returned scores of shape {tuple(scores.shape)}; "
                "return one number an image."
            )
        return RewardOutput(scores.to(images.device, torch.float32))
