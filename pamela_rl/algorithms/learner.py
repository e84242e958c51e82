"""What an algorithm is given: everything of the run it may use, and one iteration's experience."""

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
    """A second set of an adapter's weights, which follows the trained one.

    Args:
        weights: The trained adapter's; copied as they are now.
    """

    def __init__(self, weights: Sequence[Tensor]):
        self.tensors = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def follow(self, weights: Sequence[Tensor], decay: float) -> None:
        """Move towards the trained weights: ``decay`` of the copy stays."""
        for mine, theirs in zip(self.tensors, weights, strict=True):
            mine.lerp_(theirs.detach(), 1 - decay)

    @torch.no_grad()
    def put_on(self, weights: Sequence[Tensor]) -> None:
        """Put the copy's values into the trained adapter for good."""
        for mine, theirs in zip(self.tensors, weights, strict=True):
            theirs.copy_(mine)

    @contextmanager
    def worn(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Put the copy's values into the trained adapter inside the block."""
        trained = AdapterCopy(weights)
        self.put_on(weights)
        try:
            yield
        finally:
            trained.put_on(weights)


def weights_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """List what an optimizer trains, in its own order."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


@dataclass
class Learner:
    """What an algorithm may use in one run.

    Attributes:
        accelerator: For mixed precision and sums over processes.
        policy: The pipeline, its adapter on.
        optimizer: Over the adapter's weights.
        config: Of the run.
        reward: What is maximised, for algorithms that take its gradient.
        numbers: What an algorithm remembers from one iteration to the next; saved with the checkpoint.
        old: The adapter that the pictures were drawn with, where it is not the trained one itself.
    """

    accelerator: Accelerator
    policy: Policy
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    reward: Reward
    numbers: dict[str, float] = field(default_factory=dict)
    old: AdapterCopy | None = None

    @property
    def weights(self) -> list[torch.nn.Parameter]:
        """The adapter's."""
        return weights_of(self.optimizer)

    def ask(
        self, experience: Experience, schedule: Schedule, latents: Tensor, step_index: Tensor, image: Tensor
    ) -> Tensor:
        """Ask the denoiser about some latents as it was asked when the pictures were drawn.

        Args:
            experience: Of the iteration.
            schedule: Its noise levels.
            latents: ``(n, …)``.
            step_index: Place of each in the chain, ``(n,)``.
            image: Row of the picture in the trajectory that each belongs to, ``(n,)``.

        Returns:
            What the denoiser predicts, fp32, ``(n, …)``.
        """
        trajectory = experience.trajectory
        told = trajectory.conditioning[trajectory.prompt_index[image]]
        with self.accelerator.autocast():
            return self.policy.predict(
                latents, schedule.timesteps[step_index], told, trajectory.negative, experience.sampling.guidance_scale
            )


@dataclass(frozen=True)
class Experience:
    """One iteration: what this process drew and what was thought of it.

    Attributes:
        iteration: Its number.
        batch: What was asked for.
        sampling: How it was drawn.
        trajectory: What was drawn.
        advantages: How much better each picture is than the others of its group, unitless, ``(b,)``.
        known: Whether its reward is a number at all, 1 or 0, ``(b,)``; a picture without one teaches nothing.
    """

    iteration: int
    batch: PromptBatch
    sampling: SamplingConfig
    trajectory: Trajectory
    advantages: Tensor
    known: Tensor
