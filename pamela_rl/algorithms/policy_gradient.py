"""Policy-gradient algorithms, which use the density of each sampled step: DDPO, its score function, and GRPO."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.algorithms.updates import RATIO_ERROR, kl_weight, take_updates, uses_reference
from pamela_rl.diffusion.policy import adapter_off
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.diffusion.transitions import Normal, Schedule

_METRICS = ("approx_kl", "clip_fraction", "kl_to_reference")


@dataclass(frozen=True)
class Pairs:
    """Some (image, step) pairs, under the current policy and under the one that sampled them.

    Attributes:
        log_probs: Of the sampled step, under the current policy, *mean over latent dimensions*, ``(n,)``.
        old_log_probs: The same under the policy that sampled it, ``(n,)``.
        advantages: Of each pair's image, ``(n,)``.
        step: The distribution of the next latents under the current policy.
        old_mean: Its mean in the rollout, ``(n, …)``; None where the algorithm does not keep it.
        span: Noise level that the step removes, ``(n,)``.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    step: Normal
    old_mean: Tensor | None
    span: Tensor

    @property
    def ratio(self) -> Tensor:
        """Importance ratio, ``(n,)``."""
        return (self.log_probs - self.old_log_probs).exp()


def clipped_loss(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """PPO's pessimistic objective, negated to be minimised, elementwise, ``(b,)``."""
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


@dataclass(frozen=True)
class PolicyGradient(Algorithm):
    """Algorithms that learn from the density of the sampled steps; a subclass gives the objective of a pair.

    ``kl_weight`` weighs the KL divergence of one step to the reference, *mean over latent dimensions*.
    """

    @abstractmethod
    def objective(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the loss of each pair, ``(n,)``, and the ratio that is held near 1, ``(n,)``."""

    @property
    def trust(self) -> float:
        """How far the ratio may leave 1 before a pair counts as clipped."""
        return float("inf")

    def kl_penalty(self, kl: Tensor, span: Tensor) -> Tensor:
        """Return the distance to the reference that ``kl_weight`` weighs; here the KL divergence itself, ``(n,)``.

        Args:
            kl: KL divergence of each pair's step to the reference, ``(n,)``.
            span: Noise level that each step removes, ``(n,)``.
        """
        return kl

    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take the iteration's optimizer steps; ``train/sampling_mismatch`` is among its metrics."""
        schedule = schedule_of(learner.policy, experience.sampling)

        def loss(batch: MicroBatch, first: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
            step, pairs = self._pairs(learner, experience, schedule, batch)
            losses, ratio = self.objective(pairs)
            kl = ratio.new_zeros(0)
            if uses_reference(self, learner, first):
                with torch.no_grad(), adapter_off(learner.policy):
                    reference = _distribution(learner, experience, schedule, batch)
                kl = step.kl(reference)[batch.mask]
                if self.kl_weight:
                    losses = losses + kl_weight(self, learner) * self.kl_penalty(kl, pairs.span)
            away = (ratio - 1).abs().detach()
            log_ratio = (pairs.log_probs - pairs.old_log_probs).detach()
            metrics = {
                "approx_kl": 0.5 * log_ratio.square(),
                "clip_fraction": (away > self.trust).float(),
                "kl_to_reference": kl,
                RATIO_ERROR: away,
            }
            return losses, metrics

        return take_updates(self, learner, experience, loss, _METRICS, "kl_to_reference")

    def _pairs(
        self, learner: Learner, experience: Experience, schedule: Schedule, batch: MicroBatch
    ) -> tuple[Normal, Pairs]:
        trajectory, mask = experience.trajectory, batch.mask
        step = _distribution(learner, experience, schedule, batch)
        next_latents = trajectory.next_latents[batch.image, batch.slot]
        means = trajectory.means
        return step, Pairs(
            log_probs=step.log_prob(next_latents)[mask],
            old_log_probs=trajectory.log_probs[batch.image, batch.slot][mask],
            advantages=experience.advantages[batch.image][mask],
            step=step[mask],
            old_mean=None if means is None else means[batch.image, batch.slot][mask],
            span=schedule.span[trajectory.step_index[batch.image, batch.slot]][mask],
        )


def _distribution(learner: Learner, experience: Experience, schedule: Schedule, batch: MicroBatch) -> Normal:
    """The distribution of the next latents of some pairs under the current policy."""
    trajectory = experience.trajectory
    index, latents = trajectory.step_index[batch.image, batch.slot], trajectory.latents[batch.image, batch.slot]
    return schedule.transition(learner.predict(experience, schedule, latents, index, batch.image), latents, index)
