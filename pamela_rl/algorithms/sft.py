"""Supervised fine-tuning: the diffusion loss on rated images, weighted by how much they were liked (arXiv:2302.12192)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm, Footprint, LearnsFrom, require
from pamela_rl.algorithms.forward_process import NoisedImages
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.algorithms.updates import take_updates
from pamela_rl.config import TrainConfig


@dataclass(frozen=True)
class SFT(Algorithm):
    """Learn to draw the images that were liked; no image is sampled and no reward is asked.

    Each image's loss is weighted by ``sigmoid(sharpness * z)``, with z its rating in standard deviations from the
    person's mean. There is no distance to the base.

    Attributes:
        sharpness: How clearly liked and disliked images are told apart; large, images above the mean alone count.
    """

    needs_noise: ClassVar[bool] = False
    learns_from: ClassVar[LearnsFrom] = "images"
    takes_dropout: ClassVar[bool] = True

    learning_rate: float = 1e-4
    num_updates: int = 1
    sharpness: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sharpness >= 0, f"sft's sharpness is {self.sharpness}; use 0, for which all count alike, or more.")
        require(not self.kl_weight, f"sft's kl_weight is {self.kl_weight}, but it measures no distance; leave it 0.")

    def footprint(self, config: TrainConfig) -> Footprint:
        """Its noise at each level and the clean latents are kept."""
        return Footprint(latents_per_image=config.sampling.train_steps + 1)

    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take the iteration's optimizer steps."""
        noised = NoisedImages.of(self, learner, experience)
        weights = (self.sharpness * experience.advantages).sigmoid()

        def loss(batch: MicroBatch, first: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
            noisy, step, target = noised.rows(batch)
            error = learner.predict(experience, noised.schedule, noisy, step, batch.image) - target
            return weights[batch.image] * error.square().flatten(1).mean(dim=1), {}

        return take_updates(self, learner, experience, loss)
