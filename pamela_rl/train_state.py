"""What training changes: the adapter's weights, their optimizer, and totals that go on counting."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pamela_rl.checkpoint import Checkpoint, load_checkpoint, optimizer_tensors, restore_optimizer
from pamela_rl.config import DDPOConfig, TrainConfig
from pamela_rl.diffusion.adapters import adapter_state, add_adapter, load_adapter_state
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import CheckpointError, ConfigError


@dataclass
class TrainState:
    """The state of one run after some iterations.

    Attributes:
        policy: The pipeline, the adapter on it and active.
        name: The adapter's name on it.
        optimizer: Over the adapter's weights.
        iteration: Iterations that are done.
        counters: Totals over all of them.
    """

    policy: Policy
    name: str
    optimizer: torch.optim.Optimizer
    iteration: int = 0
    counters: dict[str, int] = field(default_factory=lambda: {"rollout/bad_rewards": 0, "train/skipped_updates": 0})

    @classmethod
    def resume(cls, policy: Policy, name: str, config: TrainConfig, folder: Path) -> TrainState:
        """Put the adapter on, fresh or as the checkpoint in ``folder`` left it.

        Raises:
            CheckpointError: There is one, but it cannot be read or is of another adapter.
        """
        weights = add_adapter(policy, name, config.lora, config.seed)
        state = cls(policy, name, new_optimizer(weights, config.ddpo))
        saved = load_checkpoint(folder)
        if saved is not None:
            check_fits(folder, adapter_state(policy, name), saved.adapter)
            load_adapter_state(policy, name, saved.adapter)
            restore_optimizer(state.optimizer, saved.optimizer)
            state.iteration, state.counters = saved.iteration, state.counters | saved.counters
        return state

    def count(self, metrics: Mapping[str, float]) -> Checkpoint:
        """Finish an iteration: add its metrics to the totals, and return what a checkpoint would hold now."""
        self.iteration += 1
        self.counters = {name: total + int(metrics[name]) for name, total in self.counters.items()}
        return self.checkpoint()

    def checkpoint(self) -> Checkpoint:
        """Copy everything, on the CPU."""
        weights, moments = adapter_state(self.policy, self.name), optimizer_tensors(self.optimizer)
        return Checkpoint(self.iteration, weights, moments, dict(self.counters))


def new_optimizer(weights: list[torch.nn.Parameter], config: DDPOConfig) -> torch.optim.Optimizer:
    """Make the optimizer that the settings name.

    Raises:
        ConfigError: The eight-bit one is asked for, but bitsandbytes is not installed.
    """
    kind: Any = torch.optim.AdamW
    if config.optimizer == "adamw_8bit":
        try:
            kind = importlib.import_module("bitsandbytes.optim").AdamW8bit
        except ImportError as error:
            raise ConfigError(
                "ddpo.optimizer is 'adamw_8bit', which needs bitsandbytes: pip install 'pamela_rl[memory]', or use 'adamw'."
            ) from error
    optimizer: torch.optim.Optimizer = kind(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    return optimizer


def check_fits(folder: Path, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint of another adapter.

    Raises:
        CheckpointError: Names what is missing, what is too much, and the first shape that differs.
    """
    missing, surplus = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    shapes = [name for name in own.keys() & saved.keys() if own[name].shape != saved[name].shape]
    facts = [f"{len(missing)} weights are missing, e.g. {missing[0]}"] if missing else []
    facts += [f"{len(surplus)} are not this model's, e.g. {surplus[0]}"] if surplus else []
    facts += [f"{n} is {tuple(saved[n].shape)} there, {tuple(own[n].shape)} here" for n in sorted(shapes)[:1]]
    if facts:
        raise CheckpointError(
            f"the checkpoint {folder} is of another adapter ({'; '.join(facts)}); choose another output folder, or "
            "remove that one to start over."
        )
