"""What the algorithms share that ask how probable each drawn step was: DDPO, its score function, and GRPO."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.algorithms.updates import RATIO_ERROR, kl_weight, take_updates, watches_reference
from pamela_rl.diffusion.policy import adapter_off
from pamela_rl.diffusion.rollout import schedule_of
from pamela_rl.diffusion.transitions import Normal, Schedule

_METRICS = ("approx_kl", "clip_fraction", "kl_to_reference")


@dataclass(frozen=True)
class Pairs:
    """Some (picture, step) pairs, as the policy sees them now and saw them when they were drawn.

    Attributes:
        log_probs: Of the step drawn, by the policy as it is now, *mean over latent dimensions*, ``(n,)``.
        old_log_probs: The same by the policy that drew it, ``(n,)``.
        advantages: Of each pair's picture, ``(n,)``.
        now: The distribution of the step by the policy as it is now.
        old_mean: Its mean when it was drawn, ``(n, …)``; None where the algorithm does not keep it.
        span: Noise level that the step comes down, ``(n,)``.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    now: Normal
    old_mean: Tensor | None
    span: Tensor

    @property
    def ratio(self) -> Tensor:
        """How much more probable the step has become, ``(n,)``."""
        return (self.log_probs - self.old_log_probs).exp()


def clipped_loss(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """PPO's pessimistic objective, negated to be minimised, elementwise, ``(b,)``."""
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


@dataclass(frozen=True)
class PolicyGradient(Algorithm):
    """Algorithms that learn from the density of the steps drawn; one says what it makes of a pair.

    ``kl_weight`` weighs the KL divergence of one step to the reference, *mean over latent dimensions*.
    """

    @abstractmethod
    def objective(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the loss of each pair, ``(n,)``, and the ratio that is held near 1, ``(n,)``."""

    @property
    def trust(self) -> float:
        """How far the ratio may leave 1 before a pair counts as clipped."""
        return float("inf")

    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take the iteration's optimizer steps; ``train/ratio_max_error`` is among what it returns."""
        schedule = schedule_of(learner.policy, experience.sampling)

        def loss(batch: MicroBatch, first: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
            now, pairs = self._see(learner, experience, schedule, batch)
            losses, ratio = self.objective(pairs)
            kl = ratio.new_zeros(0)
            if watches_reference(self, learner, first):
                with torch.no_grad(), adapter_off(learner.policy):
                    reference = _distribution(learner, experience, schedule, batch)
                kl = now.kl(reference)[batch.counted]
                losses = losses + kl_weight(self, learner) * kl if self.kl_weight else losses
            away = (ratio - 1).abs().detach()
            log_ratio = (pairs.log_probs - pairs.old_log_probs).detach()
            figures = {
                "approx_kl": 0.5 * log_ratio.square(),
                "clip_fraction": (away > self.trust).float(),
                "kl_to_reference": kl,
                RATIO_ERROR: away,
            }
            return losses, figures

        return take_updates(self, learner, experience, loss, _METRICS, "kl_to_reference")

    def _see(
        self, learner: Learner, experience: Experience, schedule: Schedule, batch: MicroBatch
    ) -> tuple[Normal, Pairs]:
        trajectory, chosen = experience.trajectory, batch.counted
        now = _distribution(learner, experience, schedule, batch)
        drawn = trajectory.next_latents[batch.image, batch.slot]
        means = trajectory.means
        return now, Pairs(
            log_probs=now.log_prob(drawn)[chosen],
            old_log_probs=trajectory.log_probs[batch.image, batch.slot][chosen],
            advantages=experience.advantages[batch.image][chosen],
            now=now[chosen],
            old_mean=None if means is None else means[batch.image, batch.slot][chosen],
            span=schedule.span[trajectory.step_index[batch.image, batch.slot]][chosen],
        )


def _distribution(learner: Learner, experience: Experience, schedule: Schedule, batch: MicroBatch) -> Normal:
    """The current distribution of the next latents of some pairs."""
    trajectory = experience.trajectory
    step, latents = trajectory.step_index[batch.image, batch.slot], trajectory.latents[batch.image, batch.slot]
    return schedule.transition(learner.ask(experience, schedule, latents, step, batch.image), latents, step)
