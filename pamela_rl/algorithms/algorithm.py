"""What every algorithm is: settings that check themselves, and one method that turns experience into optimizer steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.diffusion.rollout import choose_steps
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.errors import ConfigError

OWN = "own_algorithm_"  # begins the module's name of an algorithm from a file of one's own, so that random.py is no danger


def require(holds: bool, sentence: str) -> None:
    """Refuse settings that cannot work.

    Raises:
        ConfigError: With the sentence.
    """
    if not holds:
        raise ConfigError(sentence)


@dataclass(frozen=True)
class Algorithm(ABC):
    """How a rollout and what was thought of it become an update of the adapter. Defaults are the papers', for large models.

    Attributes:
        needs_noise: Whether it asks for the density of the steps drawn, so that they must be stochastic.
        acts_with_old: Whether pictures are drawn with a copy of the adapter that follows the trained one slowly.
        keeps_means: Whether the rollout shall keep the mean of each trained step.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        max_grad_norm: Gradients are scaled down to this norm.
        optimizer: "adamw", or "adamw_8bit" with bitsandbytes, which keeps moments in a quarter of the memory.
        num_inner_epochs: Passes over each iteration's pictures.
        num_updates: Optimizer steps a pass.
        kl_weight: Weight of the distance to the reference (adapter off); what distance, the algorithm says.
        kl_target: Distance that the weight is adapted to hold, starting from ``kl_weight`` and never less; 0 leaves it alone.
    """

    needs_noise: ClassVar[bool] = True
    acts_with_old: ClassVar[bool] = False

    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    num_inner_epochs: int = 1
    num_updates: int = 2
    kl_weight: float = 0.0
    kl_target: float = 0.0

    def __post_init__(self) -> None:
        name = self.name
        require(
            self.learning_rate > 0, f"{name}'s learning_rate is {self.learning_rate}; use a positive one, e.g. 3e-4."
        )
        require(self.max_grad_norm > 0, f"{name}'s max_grad_norm is {self.max_grad_norm}; use a positive norm, e.g. 1.")
        require(self.kl_weight >= 0, f"{name}'s kl_weight is {self.kl_weight}; use 0, which switches it off, or more.")
        require(self.kl_target >= 0, f"{name}'s kl_target is {self.kl_target}; use 0, which sets none, or more.")
        require(
            not self.kl_target or self.kl_weight > 0,
            f"{name}'s kl_target is {self.kl_target} but its kl_weight is 0, which no adapting changes; "
            "start from a positive weight, e.g. 0.1.",
        )
        for setting in ("num_inner_epochs", "num_updates"):
            value = getattr(self, setting)
            require(value >= 1, f"{name}'s {setting} is {value}; use at least 1.")

    @property
    def name(self) -> str:
        """What it is called in configs and records: its file's name."""
        return type(self).__module__.rpartition(".")[2].removeprefix(OWN)

    @property
    def decodes(self) -> bool:
        """Whether gradients go back through the picture's decoder."""
        return False

    @property
    def keeps_means(self) -> bool:
        """Whether the rollout shall keep the mean of each trained step."""
        return False

    @property
    def ratio_tolerance(self) -> float:
        """How far, on an accelerator or in half precision, the ratio may be from 1 before the first update."""
        return 1e-4

    def check(self, config: TrainConfig) -> None:
        """Refuse a run it cannot learn from.

        Raises:
            ConfigError: Names what does not fit and what would.
        """
        require(
            config.sampling.eta != 0 or not self.needs_noise,
            f"sampling.eta is {config.sampling.eta}; {self.name} needs noise, since a step without it has no density: "
            "use 1.0, or for flow models 0.7.",
        )
        slots = self.num_slots(config)
        pairs, updates = config.images_per_iteration * slots, self.num_updates
        require(
            updates <= pairs,
            f"{self.name}'s num_updates is {updates} but an iteration has {pairs} pairs of a picture and what it is "
            f"learned from; use 1 to {pairs}.",
        )
        if pairs % updates:
            fewer = next(n for n in range(updates, 0, -1) if pairs % n == 0)
            more = next(n for n in range(updates, pairs + 1) if pairs % n == 0)
            raise ConfigError(
                f"{self.name}'s num_updates is {updates} but an iteration has {config.images_per_iteration} images x "
                f"{slots} trained steps = {pairs} pairs, which do not divide; use {fewer} or {more}."
            )

    def latents_kept(self, config: TrainConfig) -> int:
        """Count the latents of a picture that are kept in fp32 while it is learned from: before and after each step."""
        return config.sampling.train_steps * (2 + self.keeps_means)

    def num_slots(self, config: TrainConfig) -> int:
        """Count the (picture, step) pairs that one picture gives."""
        return config.sampling.train_steps

    @property
    def steps_a_pair(self) -> int:
        """Denoising steps that gradients go back through in one pair, each a call of its own."""
        return 1

    def sampling(self, config: TrainConfig, iteration: int) -> SamplingConfig:
        """Return how the pictures of one iteration are drawn; where the run leaves noise open, only if it is needed."""
        sampling = config.sampling
        return sampling if self.needs_noise or sampling.eta is not None else replace(sampling, eta=0.0)

    def kept_steps(self, schedule: Schedule, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Choose which steps of each picture the rollout keeps, in order, ``(b, t)``."""
        return choose_steps(schedule, count, generators)

    def old_decay(self, update_steps: int) -> float:
        """Return how much of the old copy stays after an iteration, when so many optimizer steps are behind it."""
        return 0.0

    @abstractmethod
    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take one iteration's optimizer steps on the adapter.

        Returns:
            Means over the iteration, keyed ``train/…``; ``train/updates`` and ``train/skipped_updates`` among them.
        """
