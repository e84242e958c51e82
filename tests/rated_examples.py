"""One person's rated images, dark ones liked, for the tests of algorithms that learn from these."""

from __future__ import annotations

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import LearnsFrom
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.policy import Policy
from pamela_rl.training.examples import RatedExamples
from pamela_rl.types import Trajectory

SIDE = 32


def dark_and_bright(count: int = 8) -> Tensor:
    """Blurred noise, ``(count, 3, 32, 32)``; every second one is bright, the others are dark."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(7))
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")
    return 0.3 * smooth + torch.tensor([0.0, 0.7]).repeat(count // 2)[:, None, None, None]


def rated(liked: float = 5.0, disliked: float = 1.0, count: int = 8) -> RatedExamples:
    """Examples of which the dark ones got the first rating, the bright ones the second."""
    prompts = ["a boat", "a boat", "a tree", "a tree"] * (count // 4)
    ratings = torch.tensor([liked, disliked], dtype=torch.float64).repeat(count // 2)
    return RatedExamples.of("ada", dark_and_bright(count), prompts, ratings)


def prompts_of(examples: RatedExamples) -> PromptSource:
    """The different prompts of the images, to validate from."""
    return PromptSource(list(dict.fromkeys(examples.prompts)), examples.user_id)


def recalled(policy: Policy, kind: LearnsFrom, config: TrainConfig) -> tuple[Trajectory, Tensor]:
    """The first iteration of ``rated``, and its advantages."""
    examples = rated()
    trajectory, _, advantages = examples.recall(policy, examples.draw(0, kind, config), 0, kind, config)
    return trajectory, advantages
