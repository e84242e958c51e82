"""The interface of an algorithm: settings that check themselves, and an update that turns experience into optimizer steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.optimizers import OptimizerSettings
from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.diffusion.rollout import choose_steps
from pamela_rl.diffusion.transitions import Schedule
from pamela_rl.errors import ConfigError
from pamela_rl.plugins import PREFIX

LearnsFrom = Literal["rollouts", "images", "pairs"]


def require(holds: bool, sentence: str) -> None:
    """Refuse settings that cannot work.

    Raises:
        ConfigError: With the sentence.
    """
    if not holds:
        raise ConfigError(sentence)


@dataclass(frozen=True)
class Footprint:
    """What an algorithm's update costs, for the plan alone.

    Attributes:
        latents_per_image: Latents of an image that are kept in fp32 until the update.
        steps_per_pair: Denoising steps that gradients pass through in one pair, each a call of its own.
        predictions_per_pair: Calls without gradients of other adapters, or of none, that are made of all pairs beforehand.
        decodes: Whether gradients pass through the image decoder.
    """

    latents_per_image: int
    steps_per_pair: int = 1
    predictions_per_pair: int = 0
    decodes: bool = False


@dataclass(frozen=True)
class Algorithm(ABC):
    """How rollouts and advantages become updates of the adapter. Defaults are the papers', for large models.

    Attributes:
        needs_noise: Whether it uses the density of the sampled steps, so that they must be stochastic.
        learns_from: Images that it samples and a reward scores ("rollouts"), or ones that the person rated: single
            "images", or "pairs" of them, neighbours, of which the one with the positive advantage was preferred.
        uses_advantages: Whether it learns from advantages, so that what is subtracted from a reward reaches it.
        samples_with_old: Whether images are sampled with a slowly moving copy of the adapter.
        takes_dropout: Whether it may learn with an adapter that does not see all of its inputs, which samples with all.
        learning_rate: Of the optimizer.
        weight_decay: Of the optimizer; AdamW's is decoupled from the gradient, that of e.g. "adam" and "sgd" is not.
        max_grad_norm: Gradients are scaled down to this norm.
        optimizer: Its name, e.g. "adamw", "adamw_8bit" or "prodigy", or a mapping with a name and settings.
        num_inner_epochs: Passes over each iteration's images.
        num_updates: Optimizer steps a pass.
        kl_weight: Weight of the distance to the reference (adapter off); which distance, the algorithm defines.
        kl_target: Distance that the weight is adapted to, starting from ``kl_weight`` and never less; 0 keeps it constant.
    """

    needs_noise: ClassVar[bool] = True
    learns_from: ClassVar[LearnsFrom] = "rollouts"
    uses_advantages: ClassVar[bool] = True
    samples_with_old: ClassVar[bool] = False
    takes_dropout: ClassVar[bool] = False

    learning_rate: float = 3e-4
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    optimizer: OptimizerSettings | str = "adamw"
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
        self.optimizer_settings.check(self.learning_rate, self.weight_decay)

    @property
    def optimizer_settings(self) -> OptimizerSettings:
        """The optimizer's settings, where only its name is given, too."""
        return OptimizerSettings(self.optimizer) if isinstance(self.optimizer, str) else self.optimizer

    @property
    def fixes(self) -> tuple[str, ...]:
        """Settings of a run that its learning rate depends on, so that they must not change when it is resumed."""
        return () if self.optimizer_settings.schedule == "constant" else ("num_iterations",)

    @property
    def name(self) -> str:
        """Its name in configs and records: that of its file."""
        return type(self).__module__.rpartition(".")[2].removeprefix(PREFIX)

    @property
    def is_own(self) -> bool:
        """Whether it is one of the package's, not of somebody's file."""
        return type(self).__module__.startswith("pamela_rl.")

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps."""
        return self.num_updates * self.num_inner_epochs

    def frees_sampling(self, config: TrainConfig) -> bool:
        """Whether images may be sampled by other calls than those that are learned from.

        Where the density of the sampled steps is used, that costs a forward pass a trained pair, unless the only optimizer
        step's own is the old policy's. It is done there, and where other calls were asked for.
        """
        return not self.needs_noise or self.steps_per_iteration == 1 or config.sampled_at_once != config.batch_size

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
        require(
            not (self.optimizer_settings.averages and config.ema.decay),
            f"ema.decay is {config.ema.decay}, but {self.optimizer_settings.name} publishes an average of its steps already; "
            "set it to 0.",
        )
        require(
            self.takes_dropout or not config.lora.dropout,
            f"lora.dropout is {config.lora.dropout}, but {self.name} compares what is learned from with what was sampled, which "
            "dropout would change; set it to 0, or use nft, sft or dpo.",
        )
        steps, warmup = config.num_iterations * self.steps_per_iteration, self.optimizer_settings.warmup_steps
        require(
            warmup < steps or not warmup,
            f"{self.name}'s optimizer.warmup_steps is {warmup} but the run has {steps} optimizer steps; use fewer.",
        )
        slots = self.pairs_per_image(config)
        pairs, updates = config.images_per_iteration * slots, self.num_updates
        require(
            updates <= pairs,
            f"{self.name}'s num_updates is {updates} but an iteration has {pairs} (image, step) pairs; "
            f"use 1 to {pairs}.",
        )
        if pairs % updates:
            fewer = next(n for n in range(updates, 0, -1) if pairs % n == 0)
            more = next(n for n in range(updates, pairs + 1) if pairs % n == 0)
            raise ConfigError(
                f"{self.name}'s num_updates is {updates} but an iteration has {config.images_per_iteration} images x "
                f"{slots} trained steps = {pairs} pairs, which do not divide; use {fewer} or {more}."
            )

    def check_schedule(self, config: TrainConfig, schedule: Schedule) -> None:
        """Refuse a policy's noise levels that it cannot train with.

        Raises:
            ConfigError: Names what does not fit and what would.
        """
        possible = len(schedule.trainable_steps())
        remedy = f"use 1 to {possible}" if possible else "use more steps, or DRaFT or DiffusionNFT, which need no noise"
        require(
            config.sampling.train_steps <= possible or not self.needs_noise,
            f"sampling.train_steps is {config.sampling.train_steps} but only {possible} of the "
            f"{config.sampling.num_inference_steps} steps have noise to speak of (the last one may have none): {remedy}.",
        )

    def footprint(self, config: TrainConfig) -> Footprint:
        """Return the cost of an update; here latents before and after each trained step, and what is kept of their means."""
        freed = self.frees_sampling(config)
        predicted = (self.kl_weight > 0) + (freed and self.steps_per_iteration > 1)
        kept = 2 + (self.keeps_means and not freed) + predicted
        return Footprint(config.sampling.train_steps * kept, predictions_per_pair=predicted)

    def pairs_per_image(self, config: TrainConfig) -> int:
        """Count the (image, step) pairs of one image."""
        return config.sampling.train_steps

    def sampling(self, config: TrainConfig, iteration: int) -> SamplingConfig:
        """Return one iteration's sampling settings; where ``eta`` is open, without noise unless it is needed."""
        sampling = config.sampling
        return sampling if self.needs_noise or sampling.eta is not None else replace(sampling, eta=0.0)

    def kept_steps(self, schedule: Schedule, count: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Choose which steps of each image the rollout keeps, in order, ``(b, t)``."""
        return choose_steps(schedule, count, generators)

    def old_decay(self, update_steps: int) -> float:
        """Return the decay of the old copy after an iteration, given the optimizer steps taken so far."""
        return 0.0

    @abstractmethod
    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take one iteration's optimizer steps on the adapter.

        Returns:
            Means over the iteration, keyed ``train/…``; ``train/updates`` and ``train/skipped_updates`` among them.
        """
