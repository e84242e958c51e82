"""The forward process: final latents with noise put on them, at levels of the chain chosen for each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.diffusion.transfers import to_device
from pamela_rl.diffusion.transitions import Schedule

_LEVELS = 0x4E4654  # keeps its noise and noise levels apart from the images' own


@dataclass(frozen=True)
class NoisedImages:
    """An iteration's images on the forward process.

    Attributes:
        schedule: The chain of noise levels.
        clean: Final latents, ``(b, …)``.
        levels: Places in the chain at which each image is trained, ``(b, t)``.
        noise: Standard normal, ``(b, t, …)``.
    """

    schedule: Schedule
    clean: Tensor
    levels: Tensor
    noise: Tensor

    @classmethod
    def of(cls, algorithm: Algorithm, learner: Learner, experience: Experience, in_pairs: bool = False) -> NoisedImages:
        """Choose levels and draw noise, both from the run's seed, the iteration and an image's id alone.

        Args:
            algorithm: Whose number of pairs an image is the number of levels.
            learner: Of the run.
            experience: Of the iteration.
            in_pairs: Give the same levels and noise to images 2 i and 2 i + 1.
        """
        trajectory = experience.trajectory
        ids = trajectory.image_ids // 2 if in_pairs else trajectory.image_ids
        schedule = schedule_of(learner.policy, experience.sampling).to(learner.policy.device)
        levels, noise = levels_and_noise(
            trajectory.final_latents, ids, len(schedule.timesteps), algorithm.pairs_per_image(learner.config),
            learner.config.seed, experience.iteration,
        )  # fmt: skip
        return cls(schedule, trajectory.final_latents, levels, noise)

    @property
    def latents(self) -> Tensor:
        """All of them with noise on, ``(b, t, …)``."""
        flat = self.clean.repeat_interleave(self.levels.shape[1], dim=0)
        noised = self.schedule.noised(flat, self.noise.flatten(0, 1), self.levels.flatten())
        return noised.view(self.noise.shape)

    def rows(self, batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return a call's noised latents, ``(n, …)``, their places in the chain, ``(n,)``, and what to predict, ``(n, …)``."""
        clean, noise = self.clean[batch.image], self.noise[batch.image, batch.slot]
        step = self.levels[batch.image, batch.slot]
        return self.schedule.noised(clean, noise, step), step, self.schedule.target(clean, noise, step)


def levels_and_noise(latents: Tensor, image_ids: Tensor, steps: int, count: int, *key: int) -> tuple[Tensor, Tensor]:
    """Choose the noise levels each image is trained at, and draw its noise there.

    Args:
        latents: Of the images, ``(b, …)``.
        image_ids: ``(b,)``; images of one id get the same.
        steps: Of the chain, whose levels are chosen from, without repeats.
        count: Levels an image.
        key: Fixes everything, with an image's id.

    Returns:
        Places in the chain, ``(b, count)``, and standard normal noise, ``(b, count, …)``.
    """
    levels, noise = [], []
    for image_id in image_ids.tolist():
        generator = generator_for(_LEVELS, *key, image_id)
        levels.append(torch.randperm(steps, generator=generator)[:count])
        noise.append(torch.randn(count, *latents.shape[1:], generator=generator))
    return to_device(torch.stack(levels), latents.device), to_device(torch.stack(noise), latents.device)
