"""The inputs of an algorithm's update: the run's objects, and one iteration's experience."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.diffusion.adapter_bank import Adapter
from pamela_rl.diffusion.batching import padded_rows
from pamela_rl.diffusion.dropout import kept_inputs
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.precision import computing
from pamela_rl.diffusion.transfers import to_device
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.types import PromptBatch, Reward, Trajectory


class AdapterCopy:
    """A second set of an adapter's weights, e.g. an exponential moving average.

    Args:
        trained: The trained adapter; copied as it is now.

    Attributes:
        adapter: Has the copied weights; a policy can wear it.
    """

    def __init__(self, trained: Adapter):
        self.adapter = replace(trained, weights=trained.weights.detach().clone())

    @torch.no_grad()
    def update(self, trained: Adapter, decay: float) -> None:
        """Move towards the trained weights: ``copy = decay * copy + (1 - decay) * weights``."""
        self.adapter.weights.lerp_(trained.weights.detach(), 1 - decay)


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
        """Predict at some latents, with the conditioning and guidance of the rollout, in training's own kernels.

        Where there are gradients, the adapter sees only what its dropout leaves.

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
        kept = None
        if self.config.lora.dropout and torch.is_grad_enabled():
            kept = kept_inputs(
                self.config.seed, experience.iteration, to_device(trajectory.image_ids, image.device)[image], step_index,
                self.policy.bank.inputs, self.config.lora.dropout,
            )  # fmt: skip
        with computing(self.policy, self.accelerator):
            return self.policy.predict(
                latents, schedule.timesteps[step_index], conditioning, trajectory.negative,
                experience.sampling.guidance_scale, as_trained=True, kept=kept,
            )  # fmt: skip

    @torch.no_grad()
    def predict_all(
        self, experience: Experience, schedule: Schedule, latents: Tensor, step_index: Tensor, adapter: Adapter | None
    ) -> Tensor:
        """Predict at all latents of an iteration, in calls as an update makes them: an image keeps its row.

        Calls of another shape differ in the last bit, which Adam would turn into moved weights where there is no signal.

        Args:
            experience: Of the iteration.
            schedule: Its noise levels.
            latents: ``(b, t, …)``.
            step_index: Of each, ``(b, t)``.
            adapter: To predict with; None is the base model.

        Returns:
            Guided predictions, fp32, ``(b, t, …)``.
        """
        count, steps = step_index.shape
        output, size = torch.empty_like(latents), min(self.config.batch_size, count)
        with self.policy.wearing(adapter) if adapter is not None else adapter_off(self.policy):
            for rows, real in padded_rows(count, size, latents.device):
                for slot in range(steps):
                    part = self.predict(experience, schedule, latents[rows, slot], step_index[rows, slot], rows)
                    output[rows[:real], slot] = part[:real]
        return output


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
