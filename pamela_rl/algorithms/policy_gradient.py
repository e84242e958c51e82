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
from pamela_rl.algorithms.reference_predictions import ReferencePredictions
from pamela_rl.algorithms.updates import RATIO_ERROR, kl_weight, take_updates
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.diffusion.transitions import Normal

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
        """Take the iteration's optimizer steps; ``train/sampling_mismatch`` is among its metrics.

        Where sampling made other calls than training does, the old policy's log-probabilities are computed again in
        training's own; before the only update they are the loss's own.
        """
        schedule = schedule_of(learner.policy, experience.sampling).to(learner.policy.device)
        trajectory, freed = experience.trajectory, self.frees_sampling(learner.config)
        places = (experience, schedule, trajectory.latents, trajectory.step_index)
        old = learner.predict_all(*places, learner.policy.adapter) if freed and self.steps_per_iteration > 1 else None
        reference = ReferencePredictions(self, learner, *places)

        def loss(batch: MicroBatch, first: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
            at = (batch.image, batch.slot)
            latents, index = trajectory.latents[at], trajectory.step_index[at]
            step = schedule.transition(
                learner.predict(experience, schedule, latents, index, batch.image), latents, index
            )
            log_probs = step.log_prob(trajectory.next_latents[at])
            drawn = before = trajectory.log_probs[at]
            mean = None if trajectory.means is None else trajectory.means[at]
            if freed:
                sampled = step.detach() if old is None else schedule.transition(old[at], latents, index)
                before, mean = sampled.log_prob(trajectory.next_latents[at]), sampled.mean
            pairs = Pairs(log_probs, before, experience.advantages[batch.image], step, mean, schedule.span[index])
            losses, ratio = self.objective(pairs)
            away = (ratio - 1).abs().detach()
            metrics = {
                "approx_kl": 0.5 * (log_probs - before).detach().square(),
                "clip_fraction": (away > self.trust).float(),
                RATIO_ERROR: ((log_probs.detach() - drawn).exp() - 1).abs() if freed else away,
            }
            base = reference.at(batch, first)
            if base is not None:
                kl = step.kl(schedule.transition(base, latents, index))
                losses = (
                    losses + kl_weight(self, learner) * self.kl_penalty(kl, pairs.span) if self.kl_weight else losses
                )
                metrics["kl_to_reference"] = kl.detach()
            return losses, metrics

        return take_updates(self, learner, experience, loss, _METRICS, "kl_to_reference")
