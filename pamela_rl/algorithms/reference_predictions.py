"""What the base model predicts where an algorithm learns, to hold the adapter near it or to tell how far it went."""

from __future__ import annotations

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.diffusion.policy import adapter_off
from pamela_rl.diffusion.transitions import Schedule


class ReferencePredictions:
    """Predictions of the base model at an iteration's pairs: all of them once, where they have weight, else a few to watch.

    Args:
        algorithm: Whose ``kl_weight`` gives them weight.
        learner: Of the run.
        experience: Of the iteration.
        schedule: Its noise levels.
        latents: Where to predict, ``(b, t, …)``.
        step_index: Place of each in the chain, ``(b, t)``.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        learner: Learner,
        experience: Experience,
        schedule: Schedule,
        latents: Tensor,
        step_index: Tensor,
    ):
        self._learner, self._experience, self._schedule = learner, experience, schedule
        self._latents, self._step_index = latents, step_index
        needed = algorithm.kl_weight > 0
        self._all = learner.predict_all(experience, schedule, latents, step_index, None) if needed else None

    def at(self, batch: MicroBatch, first: bool) -> Tensor | None:
        """Return a call's, ``(n, …)``; None where they have no weight and it is not the update's ``first`` call."""
        if self._all is not None:
            return self._all[batch.image, batch.slot]
        if not first and not self._learner.policy.sharded:
            return None
        latents, step = self._latents[batch.image, batch.slot], self._step_index[batch.image, batch.slot]
        with torch.no_grad(), adapter_off(self._learner.policy):
            return self._learner.predict(self._experience, self._schedule, latents, step, batch.image)
