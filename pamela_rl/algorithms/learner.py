"""The inputs of an algorithm's update: the run's objects, and one iteration's experience."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.types import PromptBatch, Reward, Trajectory


class AdapterCopy:
    """A second set of an adapter's weights, e.g. an exponential moving average.

    Args:
        weights: The trained adapter's; copied as they are now.
    """

    def __init__(self, weights: Sequence[Tensor]):
        self.tensors = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def update(self, weights: Sequence[Tensor], decay: float) -> None:
        """Move towards the trained weights: ``copy = decay * copy + (1 - decay) * weights``."""
        for copy, trained in zip(self.tensors, weights, strict=True):
            copy.lerp_(trained.detach(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, weights: Sequence[Tensor]) -> None:
        """Overwrite the trained adapter's weights with the copy."""
        for copy, trained in zip(self.tensors, weights, strict=True):
            trained.copy_(copy)

    @contextmanager
    def swapped_in(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Overwrite the trained adapter's weights with the copy inside the block, and restore them after it."""
        trained = AdapterCopy(weights)
        self.copy_to(weights)
        try:
            yield
        finally:
            trained.copy_to(weights)


def weights_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """List the parameters of an optimizer, in its own order."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


@dataclass
class Learner:
    """The objects of one run that an algorithm may use.

    Attributes:
        accelerator: For mixed precision and sums over processes.
        policy: The pipeline, its adapter on.
        optimizer: Over the adapter's weights.
        config: Of the run.
        reward: For algorithms that take its gradient; None where they learn from rated images.
        scalars: An algorithm's own state from one iteration to the next; saved with the checkpoint.
        old: The adapter that sampled the images, where it is not the trained one itself.
    """

    accelerator: Accelerator
    policy: Policy
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    reward: Reward | None
    scalars: dict[str, float] = field(default_factory=dict)
    old: AdapterCopy | None = None

    @property
    def weights(self) -> list[torch.nn.Parameter]:
        """The adapter's."""
        return weights_of(self.optimizer)

    def predict(
        self, experience: Experience, schedule: Schedule, latents: Tensor, step_index: Tensor, image: Tensor
    ) -> Tensor:
        """Predict at some latents, with the conditioning and guidance of the rollout.

        Args:
            experience: Of the iteration.
            schedule: Its noise levels.
            latents: ``(n, …)``.
            step_index: Of each, ``(n,)``.
            image: Row in the trajectory of the image that each belongs to, ``(n,)``.

        Returns:
            The guided prediction, fp32, ``(n, …)``.
        """
        trajectory = experience.trajectory
        conditioning = trajectory.conditioning[trajectory.prompt_index[image]]
        with self.accelerator.autocast():
            return self.policy.predict(
                latents, schedule.timesteps[step_index], conditioning, trajectory.negative,
                experience.sampling.guidance_scale,
            )  # fmt: skip


@dataclass(frozen=True)
class Experience:
    """One iteration of this process: what was sampled, and its advantages.

    Attributes:
        iteration: Its number.
        batch: Prompts, users and ids.
        sampling: Settings of the rollout.
        trajectory: The rollout.
        advantages: Of each image relative to its group, unitless, ``(b,)``.
        mask: 1 where the reward is finite, else 0, ``(b,)``; an image without a reward gives no gradient.
    """

    iteration: int
    batch: PromptBatch
    sampling: SamplingConfig
    trajectory: Trajectory
    advantages: Tensor
    mask: Tensor
