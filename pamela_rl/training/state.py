"""The state of a run: the adapter's weights and their copies, the optimizer, and totals over all iterations."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import AdapterCopy
from pamela_rl.algorithms.optimizers import averaged_weights
from pamela_rl.config import EMASettings, TrainConfig
from pamela_rl.diffusion.adapter_bank import Adapter
from pamela_rl.diffusion.adapters import adapter_state, add_adapter, load_adapter_state
from pamela_rl.diffusion.foreign_adapters import begin_from
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import CheckpointError
from pamela_rl.training.checkpoint import Checkpoint, load_checkpoint, optimizer_tensors, restore_optimizer

_COUNTED = ("rollout/bad_rewards", "train/skipped_updates", "train/updates")
OLD, EMA = "old", "ema"  # copies of the adapter: the one that samples where the algorithm needs it; the average


@dataclass
class TrainState:
    """The state of one run after some iterations.

    Attributes:
        policy: With the adapter active.
        name: The adapter's name on it.
        optimizer: Over the adapter's weights.
        algorithm: Of the run.
        ema: Of the run.
        copies: Further sets of the adapter's weights, by name.
        iteration: Completed iterations.
        counters: Totals over all of them.
        scalars: The algorithm's own state.
        started: Whether it began from an adapter's weights, not from the base model.
    """

    policy: Policy
    name: str
    optimizer: torch.optim.Optimizer
    algorithm: Algorithm
    ema: EMASettings
    copies: dict[str, AdapterCopy]
    iteration: int = 0
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    scalars: dict[str, float] = field(default_factory=dict)
    started: bool = False

    @classmethod
    def resume(
        cls,
        policy: Policy,
        name: str,
        config: TrainConfig,
        algorithm: Algorithm,
        folder: Path,
        start: Path | None = None,
    ) -> TrainState:
        """Add the adapter to the policy: from the checkpoint in ``folder``, else with the weights of ``start``, else fresh.

        Raises:
            CheckpointError: There is one, but it cannot be read or is of another adapter.
            AdapterError: ``start`` is an adapter of another model or rank.
        """
        policy.adapt(config.lora.targets)
        weights = add_adapter(policy, name, config.lora, config.seed)
        if start is not None:
            begin_from(policy, start, name)
        needed = {OLD: algorithm.samples_with_old, EMA: config.ema.decay > 0}
        copies = {copy: AdapterCopy(policy.adapters[name]) for copy, is_needed in needed.items() if is_needed}
        optimizer = algorithm.optimizer_settings.make(weights, algorithm.learning_rate, algorithm.weight_decay)
        state = cls(policy, name, optimizer, algorithm, config.ema, copies, started=start is not None)
        saved = load_checkpoint(folder)
        if saved is not None:
            check_fits(folder, adapter_state(policy, name), saved.adapter)
            load_adapter_state(policy, name, saved.adapter)
            restore_optimizer(state.optimizer, saved.optimizer)
            check_fits(folder, state.copied_tensors(), saved.copies)
            for copy, kept in state.copies.items():
                kept.adapter.weights.copy_(saved.copies[copy])
            state.iteration, state.scalars = saved.iteration, dict(saved.scalars)
            state.counters = state.counters | saved.counters
        return state

    @property
    def trained(self) -> Adapter:
        """The adapter that is trained."""
        return self.policy.adapters[self.name]

    def rollout_weights(self) -> AbstractContextManager[None]:
        """Use the weights that sample images inside the block: the old copy where there is one."""
        return self._worn(OLD)

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Use the weights that will be published inside the block: the average where there is one."""
        if self.algorithm.optimizer_settings.averages:
            (average,) = averaged_weights(self.optimizer)
            return self.policy.wearing(replace(self.trained, weights=average))
        return self._worn(EMA)

    def apply_average(self) -> None:
        """Overwrite the adapter with the average, where there is one."""
        with self.averaged_weights():
            published = self.policy.adapter
        assert published is not None
        if published is not self.trained:
            self.trained.load(published.matrices)

    def advance(self, metrics: Mapping[str, float]) -> Checkpoint:
        """Complete an iteration: update the copies, add its metrics to the totals, return its checkpoint."""
        self.iteration += 1
        self.counters = {name: total + int(metrics[name]) for name, total in self.counters.items()}
        if OLD in self.copies:
            taken = self.counters["train/updates"] - self.counters["train/skipped_updates"]
            self.copies[OLD].update(self.trained, self.algorithm.old_decay(taken))
        if EMA in self.copies and self.iteration % self.ema.every == 0:
            steps = self.iteration // self.ema.every
            self.copies[EMA].update(self.trained, min(self.ema.decay, (1 + steps) / (10 + steps)))
        return self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        """Copy the state where it lies; it is sent to the CPU when it is saved."""
        weights, moments = AdapterCopy(self.trained).adapter.matrices, optimizer_tensors(self.optimizer)
        return Checkpoint(
            self.iteration, weights, moments, self.copied_tensors(), dict(self.counters), dict(self.scalars)
        )

    def copied_tensors(self) -> dict[str, Tensor]:
        """The copies' weights, keyed as in a checkpoint; an average that the optimizer takes is there as the other one is."""
        copied = {copy: kept.adapter.weights.clone() for copy, kept in self.copies.items()}
        if self.algorithm.optimizer_settings.averages:
            (copied[EMA],) = averaged_weights(self.optimizer)
        return copied

    def _worn(self, copy: str) -> AbstractContextManager[None]:
        return self.policy.wearing(self.copies[copy].adapter) if copy in self.copies else nullcontext()


def check_fits(folder: Path, current: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint of another adapter.

    Raises:
        CheckpointError: Names missing and surplus weights, and the first shape that differs.
    """
    missing, surplus = sorted(current.keys() - saved.keys()), sorted(saved.keys() - current.keys())
    shapes = [name for name in current.keys() & saved.keys() if current[name].shape != saved[name].shape]
    facts = [f"{len(missing)} weights are missing, e.g. {missing[0]}"] if missing else []
    facts += [f"{len(surplus)} are not this model's, e.g. {surplus[0]}"] if surplus else []
    facts += [f"{n} is {tuple(saved[n].shape)} there, {tuple(current[n].shape)} here" for n in sorted(shapes)[:1]]
    if facts:
        raise CheckpointError(
            f"the checkpoint {folder} is of another adapter ({'; '.join(facts)}); choose another output folder, or "
            "remove that one to start over."
        )
