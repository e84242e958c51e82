"""Direct reward gradient through the last denoising steps: DRaFT-K (arXiv:2309.17400) and AlignProp (arXiv:2310.03739)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm, Footprint, require
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.algorithms.updates import kl_weight, take_updates
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.policy import adapter_off
from pamela_rl.diffusion.precision import computing
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.errors import ConfigError

_METRICS = ("reward", "reference_mse")
_DEPTH = 0x445246  # keeps the random depth's numbers apart from those of images


@dataclass(frozen=True)
class DRaFT(Algorithm):
    """DRaFT-K: the reward's own gradient, through image, decoder and the last steps of the chain.

    It needs a reward that is differentiable in its images, and uses no advantages. ``kl_weight`` weighs the mean
    squared difference of the denoiser's prediction to the reference's at these steps.

    Attributes:
        num_steps: Steps at the end of the chain that gradients go back through, the K of DRaFT-K.
        random_depth: Go back through a random number of them, from 1 to ``num_steps``, in each iteration (AlignProp).
    """

    needs_noise: ClassVar[bool] = False
    uses_advantages: ClassVar[bool] = False

    learning_rate: float = 4e-4
    weight_decay: float = 0.1
    num_updates: int = 1
    num_steps: int = 1
    random_depth: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_steps >= 1, f"draft's num_steps is {self.num_steps}; use 1 or more: 1 is DRaFT-1.")

    def check(self, config: TrainConfig) -> None:
        """Refuse a run it cannot learn from.

        Raises:
            ConfigError: Names what does not fit and what would.
        """
        super().check(config)
        steps = config.sampling.num_inference_steps
        require(
            self.num_steps <= steps,
            f"draft's num_steps is {self.num_steps} but an image takes {steps} steps; use fewer.",
        )

    def pairs_per_image(self, config: TrainConfig) -> int:
        """An image is trained as a whole."""
        return 1

    def footprint(self, config: TrainConfig) -> Footprint:
        """Latents before and after each of the last steps are kept; gradients pass through these steps and the decoder."""
        return Footprint(latents_per_image=2 * self.num_steps, steps_per_pair=self.num_steps, decodes=True)

    def kept_steps(self, schedule: Schedule, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Keep the last steps."""
        last = torch.arange(len(schedule.timesteps) - self.num_steps, len(schedule.timesteps))
        return last.expand(len(generators), -1)

    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take the iteration's optimizer steps.

        Raises:
            ConfigError: The reward gives no gradient.
        """
        schedule = schedule_of(learner.policy, experience.sampling).to(learner.policy.device)
        first_step = self.num_steps - self._depth(learner, experience.iteration)
        signal = 0.0 if learner.config.advantages.zero else 1.0

        def loss(batch: MicroBatch, first: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
            watched = self.kl_weight > 0 or learner.policy.sharded or first
            latents, distances = self._walk(learner, experience, schedule, batch, first_step, watched)
            rewards = self._reward(learner, experience, latents, batch.image_rows)
            finite = rewards.isfinite()
            losses = -signal * torch.where(finite, rewards, 0.0)
            if self.kl_weight:
                losses = losses + kl_weight(self, learner) * distances
            told = {"reference_mse": distances.detach()} if watched else {}
            return losses, {"reward": torch.where(finite, rewards, torch.nan).detach(), **told}

        stats = take_updates(self, learner, experience, loss, _METRICS, "reference_mse")
        learner.policy.offload_idle()
        return stats

    def _walk(
        self,
        learner: Learner,
        experience: Experience,
        schedule: Schedule,
        batch: MicroBatch,
        first_step: int,
        watched: bool,
    ) -> tuple[Tensor, Tensor]:
        """Go down the last steps again as they were gone, but with gradients; final latents, and distances, ``(b,)``."""
        trajectory, image = experience.trajectory, batch.image
        latents = trajectory.latents[image, first_step]
        distances = latents.new_zeros(len(image))
        for slot in range(first_step, self.num_steps):
            step = trajectory.step_index[image, slot]
            output = learner.predict(experience, schedule, latents, step, image)
            if watched:
                with torch.no_grad(), adapter_off(learner.policy):
                    reference = learner.predict(experience, schedule, latents, step, image)
                distances = distances + (output - reference).square().flatten(1).mean(dim=1)
            mean = schedule.transition(output, latents, step).mean
            latents = mean + (trajectory.next_latents[image, slot] - mean.detach())  # the noise of the rollout
        return latents, distances / (self.num_steps - first_step)

    def _reward(self, learner: Learner, experience: Experience, latents: Tensor, rows: Sequence[int]) -> Tensor:
        """Score the images; those without a finite reward get no gradient, whatever the reward would give."""
        prompts, users = experience.batch.prompts, experience.batch.user_ids
        with computing(learner.policy, learner.accelerator):  # as in the rollout
            images = learner.policy.decode(latents)
        assert learner.reward is not None  # it learns from rollouts
        output = learner.reward(images, [prompts[row] for row in rows], [users[row] for row in rows])
        rewards = output.lower_confidence_bound(learner.config.reward.std_weight)
        if not rewards.requires_grad:
            raise ConfigError(
                "the reward gives no gradient to its images, which draft learns from; use a differentiable reward, or "
                "an algorithm that needs none: ddpo, grpo, nft."
            )
        finite = rewards.detach().isfinite().view(-1, 1, 1, 1)
        images.register_hook(lambda gradient: torch.where(finite, gradient, 0.0))
        return rewards

    def _depth(self, learner: Learner, iteration: int) -> int:
        if not self.random_depth:
            return self.num_steps
        generator = generator_for(_DEPTH, learner.config.seed, iteration)
        return 1 + int(torch.randint(self.num_steps, (), generator=generator))
