"""One iteration's updates, as the loop asks for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import AdapterCopy, Experience, Learner
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.types import PromptBatch, RewardOutput, Trajectory


def darkness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(-images.mean(dim=(1, 2, 3)))


def learn(
    algorithm: Algorithm,
    accelerator: Accelerator,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    drawn: Trajectory,
    advantages: Tensor,
    config: TrainConfig,
    old: AdapterCopy | None = None,
) -> dict[str, float]:
    learner = Learner(accelerator, policy, optimizer, config, darkness, old=old)
    count = len(drawn.image_ids)
    batch = PromptBatch(("a boat",) * count, ("ada",) * count, torch.zeros(count, dtype=torch.long), drawn.image_ids)
    experience = Experience(0, batch, config.sampling, drawn, advantages, torch.ones(count))
    return algorithm.update(learner, experience)
