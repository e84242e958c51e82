"""One iteration's experience: sampled and scored by the reward, or recalled from what a person rated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import Experience
from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adherence import adherence
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.precision import computing
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.distances import distances_to_others
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.health import finite_images
from pamela_rl.training.processes import Shares, local_advantages, mean_over_processes
from pamela_rl.training.state import TrainState
from pamela_rl.types import PromptBatch, Reward, RewardOutput, Scorer, Trajectory, Verdict, trainable

BASE_ADHERENCE, BASE_DISTANCE, BASE_SPREAD = (
    "base_adherence",
    "base_distance",
    "base_reward_std",
)  # among the run's scalars


@dataclass(frozen=True)
class Lived:
    """One iteration before anything is learned from it.

    Attributes:
        experience: This process's part.
        rewards: Of all processes' images, ``(b,)``.
        finite: Which of all processes' images are finite, ``(b,)``.
        scores: Means of the reward's parts and of what is only watched, ``rollout/…``.
    """

    experience: Experience
    rewards: Tensor
    finite: Tensor
    scores: Mapping[str, float]


class Source(Protocol):
    """Where a run's experience comes from."""

    def __call__(self, iteration: int) -> Lived:
        """Return an iteration's experience; it depends on the run's settings and on the adapter alone."""
        ...


@dataclass(frozen=True)
class Rollouts:
    """Act, judge, credit: images of the current policy, scored by the reward, relative to their group.

    Attributes:
        policy: The pipeline, its adapter on.
        state: Of the run.
        reward: What is maximised.
        monitors: Scorers that are only watched, by name.
        prompts: Of one user.
        config: Of the run.
        algorithm: Of the run.
        shares: Which process samples which images.
    """

    policy: Policy
    state: TrainState
    reward: Reward
    monitors: Mapping[str, Scorer]
    prompts: PromptSource
    config: TrainConfig
    algorithm: Algorithm
    shares: Shares

    def __call__(self, iteration: int) -> Lived:
        """Sample and score an iteration's images."""
        config, algorithm = self.config, self.algorithm
        whole = self.prompts.draw(iteration, config.prompts_per_iteration, config.group_size, config.seed)
        batch = whole[self.shares.local_ids]
        sampling = algorithm.sampling(config, iteration)
        freed = algorithm.frees_sampling(config)
        with self.state.rollout_weights(), computing(self.policy, self.shares.accelerator):  # act
            trajectory = rollout(
                self.policy, batch, sampling, config.seed, iteration, config.sampled_at_once, algorithm.kept_steps,
                algorithm.keeps_means and not freed, as_trained=not freed,
            )  # fmt: skip
        output = trainable(_score(self.reward, trajectory, batch))  # judge
        watched = {f"reward_{part}": values for part, values in (output.parts or {}).items()}
        watched |= {name: _score(monitor, trajectory, batch).mean for name, monitor in self.monitors.items()}
        if algorithm.uses_advantages and (config.reward.adherence_weight or config.reward.diversity_weight):
            lacks = self._lacks(output, trajectory, batch, whole.group_ids, sampling)
            watched |= {f"lacks_of_{what}": lacking for what, (_, lacking) in lacks.items()}
            lost = torch.stack([weight * lacking for weight, lacking in lacks.values()]).sum(dim=0)
            output = replace(output, mean=output.mean - self.state.scalars[BASE_SPREAD] * lost)
        rewards, advantages = local_advantages(self.shares, output, whole.group_ids, config)  # credit
        mask = output.lower_confidence_bound(config.reward.std_weight).isfinite().float()
        finite = self.shares.gather(finite_images(trajectory.images))
        experience = Experience(iteration, batch, sampling, trajectory.without_images(), advantages, mask)
        return Lived(experience, rewards, finite, mean_over_processes(self.shares, watched))

    def _lacks(
        self,
        output: RewardOutput,
        trajectory: Trajectory,
        batch: PromptBatch,
        group_ids: Tensor,
        sampling: SamplingConfig,
    ) -> dict[str, tuple[float, Tensor]]:
        """Return what images lack of the base model's adherence and variety: each weight and each image's share, ``(b,)``."""
        weights, scalars = self.config.reward, self.state.scalars
        own = self._measured(trajectory, batch, group_ids, sampling)
        if BASE_SPREAD not in scalars:
            base, rewards = own, output.mean
            if self.state.started:  # else the first images are the base model's
                with adapter_off(self.policy), computing(self.policy, self.shares.accelerator):
                    drawn = rollout(self.policy, batch, sampling, self.config.seed, 0, self.config.sampled_at_once)
                base = self._measured(drawn, batch, group_ids, sampling)
                rewards = trainable(_score(self.reward, drawn, batch)).mean
            rewards = self.shares.gather(rewards.float())  # what is not finite tells nothing of the others
            scalars[BASE_SPREAD] = float(rewards[rewards.isfinite()].std(correction=0).nan_to_num())
            for name, values in base.items():
                scalars[name] = float(values[values.isfinite()].mean().nan_to_num())
        lacks = {}
        for what, name, weight, least in (
            ("prompt", BASE_ADHERENCE, weights.adherence_weight, 0.0),
            ("variety", BASE_DISTANCE, weights.diversity_weight, -math.inf),
        ):
            if name in own:
                mine = own[name][self.shares.local_ids.to(own[name].device)]
                share = 1 - mine / scalars[name] if scalars[name] > 0 else torch.zeros_like(mine)
                lacks[what] = weight, share.clamp(min=least).to(output.mean)
        return lacks

    def _measured(
        self, trajectory: Trajectory, batch: PromptBatch, group_ids: Tensor, sampling: SamplingConfig
    ) -> dict[str, Tensor]:
        """Measure what has a weight, of all processes' images: adherence, and distances to the others of their group, ``(b,)``."""
        weights, latents = self.config.reward, trajectory.final_latents
        found = {}
        if weights.adherence_weight:
            found[BASE_ADHERENCE] = self.shares.gather(
                adherence(self.policy, latents, batch.prompts, sampling, self.config.sampled_at_once)
            )
        if weights.diversity_weight:
            found[BASE_DISTANCE] = distances_to_others(self.shares.gather(latents), group_ids)
        return found


@dataclass(frozen=True)
class Recollections:
    """Images that the person rated, drawn from again and again; nothing is sampled.

    Attributes:
        policy: The pipeline.
        examples: Of one user.
        config: Of the run.
        algorithm: Of the run.
        shares: Which process learns from which images.
    """

    policy: Policy
    examples: RatedExamples
    config: TrainConfig
    algorithm: Algorithm
    shares: Shares

    def __call__(self, iteration: int) -> Lived:
        """Recall an iteration's images."""
        config, kind = self.config, self.algorithm.learns_from
        batch = self.examples.draw(iteration, kind, config)[self.shares.local_ids]
        trajectory, ratings, advantages = self.examples.recall(self.policy, batch, iteration, kind, config)
        sampling = self.algorithm.sampling(config, iteration)
        experience = Experience(iteration, batch, sampling, trajectory, advantages, torch.ones_like(advantages))
        finite = self.shares.gather(finite_images(trajectory.images))
        return Lived(
            replace(experience, trajectory=trajectory.without_images()), self.shares.gather(ratings), finite, {}
        )


def check_source(
    algorithm: Algorithm, reward: Reward | None, examples: RatedExamples | None, config: TrainConfig, num_processes: int
) -> None:
    """Refuse an algorithm without what it learns from, and processes that would share a pair.

    Raises:
        ConfigError: Says what is missing, or what would divide.
    """
    if algorithm.learns_from == "pairs" and config.images_per_iteration % (2 * num_processes):
        raise ConfigError(
            f"images_per_iteration is {config.images_per_iteration} but {algorithm.name} learns from pairs, of which "
            f"{num_processes} processes get equally many; use a multiple of {2 * num_processes}."
        )
    if algorithm.learns_from == "rollouts" and reward is None:
        raise ConfigError(
            f"{algorithm.name} learns from a reward's scores, but there is no reward; fit one and give it."
        )
    if algorithm.learns_from != "rollouts" and examples is None:
        raise ConfigError(
            f"{algorithm.name} learns from images that the person rated, but there are none; give them as source.path."
        )


@torch.no_grad()
def _score(scorer: Scorer, trajectory: Trajectory, batch: PromptBatch) -> RewardOutput | Verdict:
    return scorer(trajectory.images, batch.prompts, batch.user_ids)
