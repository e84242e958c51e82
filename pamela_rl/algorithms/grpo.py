"""GRPO for flow models (Flow-GRPO, arXiv:2505.05470), with its Fast, MixGRPO (arXiv:2507.21802) and GRPO-Guard
(arXiv:2510.22319) forms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from pamela_rl.algorithms.algorithm import require
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.policy_gradient import Pairs, clipped_loss
from pamela_rl.config import SamplingConfig, TrainConfig
from pamela_rl.diffusion.flow import FlowSchedule
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.transitions import Schedule

WindowMove = Literal["fixed", "random", "sliding"]
KLForm = Literal["exact", "flow_grpo"]
_WINDOW = 0x57494E  # keeps the window's random numbers apart from those of images


@dataclass(frozen=True)
class GRPO(DDPO):
    """Flow-GRPO. Its group statistics are the run's ``advantages``, its noise the run's ``sampling``, its EMA the run's ``ema``.

    Attributes:
        window: Where the window of stochastic steps lies: where ``sampling.window_start`` puts it, at a random place
            within the first half of the chain in every iteration (Flow-GRPO-Fast), or sliding along it (MixGRPO).
        window_every: Iterations that a sliding window stays.
        window_stride: Steps that it then moves on.
        guard: Centre the log-ratio and scale it by the step's noise, and divide the loss by the span of the step, so
            that clipping acts alike at all steps (GRPO-Guard).
        kl_form: What ``kl_weight`` weighs: the "exact" KL divergence of a step, or that times the step's span, as
            "flow_grpo"'s own code computes it, to which the paper's weight of 0.04 belongs. Metrics and ``kl_target`` are
            in terms of the exact one.
    """

    kl_weight: float = 0.04
    window: WindowMove = "fixed"
    window_every: int = 25
    window_stride: int = 1
    guard: bool = False
    kl_form: KLForm = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        moves = get_args(WindowMove)
        require(self.window in moves, f"{self.name}'s window is {self.window!r}; use one of {', '.join(moves)}.")
        forms = get_args(KLForm)
        require(self.kl_form in forms, f"{self.name}'s kl_form is {self.kl_form!r}; use one of {', '.join(forms)}.")
        for setting in ("window_every", "window_stride"):
            require(getattr(self, setting) >= 1, f"{self.name}'s {setting} is {getattr(self, setting)}; use 1 or more.")

    @property
    def keeps_means(self) -> bool:
        """The guard centres the ratio by them."""
        return self.guard

    def check(self, config: TrainConfig) -> None:
        """Refuse a run it cannot learn from.

        Raises:
            ConfigError: Names what does not fit and what would.
        """
        super().check(config)
        require(
            self.window == "fixed" or config.sampling.window_size is not None,
            f"{self.name}'s window is {self.window!r} but sampling.window_size is not set; set it, e.g. to 3.",
        )
        require(
            self.window == "fixed" or config.sampling.window_start == 0,
            f"{self.name}'s window is {self.window!r} but sampling.window_start is {config.sampling.window_start}, which only "
            "a fixed window uses; leave it 0.",
        )

    def check_schedule(self, config: TrainConfig, schedule: Schedule) -> None:
        """Refuse noise levels it cannot train with.

        Raises:
            ConfigError: Names what does not fit and what would.
        """
        super().check_schedule(config, schedule)
        noise = schedule.noise if isinstance(schedule, FlowSchedule) else "DDIM's"
        require(
            self.kl_form == "exact" or noise == "flow_sde",
            f"{self.name}'s kl_form is 'flow_grpo', which is defined for flow_sde noise, but the noise is {noise}; "
            "use kl_form 'exact'.",
        )

    def kl_penalty(self, kl: Tensor, span: Tensor) -> Tensor:
        """Return the KL divergence, or as Flow-GRPO's code its (μ − μ_ref)²/2σ_t², which lacks the step's 1/−Δt, ``(n,)``."""
        return kl if self.kl_form == "exact" else kl * span

    def sampling(self, config: TrainConfig, iteration: int) -> SamplingConfig:
        """Return one iteration's sampling settings, with the window moved to its place.

        A sliding window leaves the last step out, which has next to no noise.
        """
        sampling = config.sampling
        if self.window == "fixed":
            return sampling
        size, steps = sampling.window_size or 1, sampling.num_inference_steps
        if self.window == "sliding":
            start = self.window_stride * (iteration // self.window_every) % max(1, steps - size)
        else:
            places = max(1, steps // 2 - size + 1)
            start = int(torch.randint(places, (), generator=generator_for(_WINDOW, config.seed, iteration)))
        return replace(sampling, window_start=start)

    def objective(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the clipped loss of each pair, and the ratio that is clipped."""
        if not self.guard:
            return super().objective(pairs)
        assert pairs.old_mean is not None
        std = pairs.step.std.flatten()
        shift = (pairs.step.mean - pairs.old_mean).square().flatten(1).mean(dim=1)
        centred = pairs.log_probs - pairs.old_log_probs + shift / (2 * std.square())
        ratio = (centred * std).exp()
        return clipped_loss(ratio, pairs.advantages, self.clip_range) / pairs.span, ratio
