"""Optimizers by name, over the one vector of a person's adapter, and how the learning rate changes over a run."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import nn

from pamela_rl.algorithms.learner import weights_of
from pamela_rl.errors import ConfigError

Schedule = Literal["constant", "linear", "cosine"]
OPTIMIZERS: Mapping[str, str] = {
    "adamw": "torch.optim.AdamW",
    "adam": "torch.optim.Adam",
    "adamax": "torch.optim.Adamax",
    "nadam": "torch.optim.NAdam",
    "radam": "torch.optim.RAdam",
    "rmsprop": "torch.optim.RMSprop",
    "adagrad": "torch.optim.Adagrad",
    "sgd": "torch.optim.SGD",
    "adamw_8bit": "bitsandbytes.optim.AdamW8bit",
    "adam_8bit": "bitsandbytes.optim.Adam8bit",
    "lion_8bit": "bitsandbytes.optim.Lion8bit",
    "lion": "bitsandbytes.optim.Lion",
    "prodigy": "prodigyopt.Prodigy",
    "adamw_schedule_free": "schedulefree.AdamWScheduleFree",
    "radam_schedule_free": "schedulefree.RAdamScheduleFree",
    "sgd_schedule_free": "schedulefree.SGDScheduleFree",
}
_EXTRAS = {"bitsandbytes": "memory", "prodigyopt": "optimizers", "schedulefree": "optimizers"}
_REFUSED = {
    "adafactor": "it saves memory by factors of each matrix",
    "muon": "it orthogonalises each matrix",
    "lbfgs": "it computes the loss several times a step",
    "sparse_adam": "it takes sparse gradients",
}
_COUNTED = 1 << 16  # weights; bitsandbytes keeps small vectors in fp32


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer of each person's adapter, and the course of its learning rate.

    Attributes:
        name: One of ``OPTIMIZERS``.
        betas: Decay of its running means; None is its own.
        epsilon: Added to its denominator; None is its own.
        arguments: Further arguments of its class, e.g. ``{momentum: 0.9}`` of "sgd" or ``{d_coef: 2.0}`` of "prodigy".
        schedule: What the learning rate does after its warm-up: it stays, or falls to the end of the run.
        warmup_steps: Optimizer steps over which it rises, the first of them with a share of one by their number.
        cycles: Times that a cosine falls.
        end: Share of the learning rate that a schedule falls to.
    """

    name: str = "adamw"
    betas: list[float] | None = None
    epsilon: float | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    cycles: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        if self.name in _REFUSED:
            raise ConfigError(
                f"optimizer.name is {self.name!r}, but {_REFUSED[self.name]}, and an adapter is trained as one vector "
                "with one dense gradient a step; use e.g. adamw, adamw_8bit or prodigy."
            )
        schedules = get_args(Schedule)
        free = self.name.endswith("schedule_free")
        for holds, sentence in (
            (self.name in OPTIMIZERS, f"name is {self.name!r}; use one of {', '.join(OPTIMIZERS)}."),
            (self.schedule in schedules, f"schedule is {self.schedule!r}; use one of {', '.join(schedules)}."),
            (
                self.betas is None or (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)),
                f"betas is {self.betas}; use two numbers from 0 to below 1, e.g. [0.9, 0.999].",
            ),
            (self.epsilon is None or self.epsilon > 0, f"epsilon is {self.epsilon}; use a positive one, e.g. 1e-8."),
            (self.warmup_steps >= 0, f"warmup_steps is {self.warmup_steps}; use 0, which has none, or more."),
            (self.cycles >= 1, f"cycles is {self.cycles}; use 1 or more."),
            (0 <= self.end <= 1, f"end is {self.end}; it is a share of the learning rate: use 0 to 1."),
            (
                not free or self.schedule == "constant",
                f"schedule is {self.schedule!r} but {self.name} replaces schedules by an average; leave it constant.",
            ),
        ):
            if not holds:
                raise ConfigError(f"optimizer.{sentence}")

    @property
    def averages(self) -> bool:
        """Whether gradients are taken at other weights than those that are used, which are an average of the steps."""
        return self.name.endswith("schedule_free")

    @property
    def spans_run(self) -> bool:
        """Whether what a step learns depends on how many there will be."""
        return self.schedule != "constant"

    @property
    def changes_rate(self) -> bool:
        """Whether the learning rate depends on the step."""
        return self.schedule != "constant" or self.warmup_steps > 0

    def rate_share(self, step: int, steps: int) -> float:
        """Return the share of the learning rate that a step takes.

        Args:
            step: Its number in the run, from 0.
            steps: Of the run.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        left = {
            "constant": 1.0,
            "linear": 1 - done,
            "cosine": 0.5 * (1 + math.cos(math.pi * (self.cycles * done % 1))),
        }[self.schedule]
        return self.end + (1 - self.end) * left

    def make(self, weights: Sequence[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Make the optimizer; it is in the state in which steps are taken.

        Raises:
            ConfigError: Its package is not installed, or it takes no such argument.
        """
        kind = _class_of(self.name)
        betas = None if self.betas is None else tuple(self.betas)
        options = {"lr": learning_rate, "weight_decay": weight_decay, "eps": self.epsilon, "betas": betas}
        given = {name: value for name, value in options.items() if value is not None} | self.arguments
        known = [name for name in inspect.signature(kind).parameters if name not in ("self", "params")]
        unknown = sorted(given.keys() - set(known))
        if unknown:
            raise ConfigError(f"the optimizer {self.name} takes no {', '.join(unknown)}; it takes {', '.join(known)}.")
        try:
            with redirect_stdout(None):  # Prodigy prints that weights decay
                optimizer: torch.optim.Optimizer = kind(weights, **given)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the optimizer {self.name} cannot be made: {str(error).rstrip('.')}.") from error
        if self.averages:
            optimizer.train()  # type: ignore[attr-defined]
        return optimizer

    def check(self, learning_rate: float, weight_decay: float) -> None:
        """Refuse what cannot be made, before there is a model.

        Raises:
            ConfigError: As ``make`` does, or the learning rate is none of this optimizer's.
        """
        if self.name == "prodigy" and learning_rate < 0.1:
            raise ConfigError(
                f"the learning_rate is {learning_rate}, but prodigy finds the size of its steps itself and multiplies it by "
                "that: use 1."
            )
        self.make([nn.Parameter(torch.ones(1))], learning_rate, weight_decay)

    def bytes_per_weight(self) -> int:
        """Count the bytes of its state for each weight, by a step on a small vector."""
        weights = nn.Parameter(torch.ones(_COUNTED))
        optimizer, weights.grad = self.make([weights], 1.0, 0.0), torch.ones(_COUNTED)
        optimizer.step()
        kept = [value for value in optimizer.state[weights].values() if isinstance(value, torch.Tensor)]
        return sum(value.numel() * value.element_size() for value in kept) // _COUNTED


@torch.no_grad()
def averaged_weights(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Copy the weights that an optimizer without a schedule means to be used: the average of its steps.

    The weights at which it takes gradients stay as they are to the bit.
    """
    weights = weights_of(optimizer)
    before = [weight.detach().clone() for weight in weights]
    optimizer.eval()  # type: ignore[attr-defined]
    averages = [weight.detach().clone() for weight in weights]
    for weight, value in zip(weights, before, strict=True):
        weight.copy_(value)
    for group in optimizer.param_groups:
        group["train_mode"] = True
    return averages


def _class_of(name: str) -> Any:
    module, _, kind = OPTIMIZERS[name].rpartition(".")
    try:
        return getattr(importlib.import_module(module), kind)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"the optimizer is {name!r}, which needs {package}: pip install 'pamela_rl[{_EXTRAS[package]}]', or use 'adamw'."
        ) from error
