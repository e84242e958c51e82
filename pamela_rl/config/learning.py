"""From rewards to updates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pamela_rl.config.checks import BESIDE, at_least, require

AdvantageScale = Literal["group", "batch"]
AlgorithmChoice = str | dict[str, Any]  # a name, or a mapping with a name and settings


@dataclass(frozen=True)
class RewardSettings:
    """How a reward model's output becomes the number that is maximised.

    Attributes:
        std_weight: Multiples of the reward's own uncertainty subtracted from its mean; 0 maximises the mean.
        adherence_weight: What an image loses that has nothing to do with its prompt, according to the base model itself,
            in standard deviations of the base model's rewards; 0 asks nothing of the prompt. Algorithms without
            advantages ignore it.
        diversity_weight: What an image loses that is like the others of its prompt: in the same standard deviations, the share
            by which it is nearer to them than the base model's images are to each other; 0 lets all be alike. Algorithms
            without advantages ignore it.
        max_bad_share: Share of non-finite rewards, or of skipped updates, above which the run stops.
    """

    std_weight: float = 0.5
    adherence_weight: float = 0.0
    diversity_weight: float = 0.0
    max_bad_share: float = field(default=0.5, metadata=BESIDE)

    def __post_init__(self) -> None:
        for name in ("std_weight", "adherence_weight", "diversity_weight"):
            at_least(f"reward.{name}", getattr(self, name), 0, "0 leaves it out")
        share = self.max_bad_share
        require(0 <= share <= 1, f"reward.max_bad_share is {share}; it is a share: use 0 to 1, e.g. 0.5.")


@dataclass(frozen=True)
class AdvantageSettings:
    """How rewards become advantages.

    Attributes:
        scale: Standard deviation that a reward's distance from its group's mean is divided by: the "group"'s own, or the
            whole "batch"'s, under which groups that hardly differ have little weight.
        clip: Advantages are clipped to plus and minus this.
        separate_parts: Turn each part of a weighted reward into advantages of its own and add those up by their weights,
            so that no part dominates by its scale.
        zero: Control experiment: train on everything but the reward's signal.
    """

    scale: AdvantageScale = "group"
    clip: float = 5.0
    separate_parts: bool = False
    zero: bool = False

    def __post_init__(self) -> None:
        scales = get_args(AdvantageScale)
        require(self.scale in scales, f"advantages.scale is {self.scale!r}; use one of {', '.join(scales)}.")
        require(self.clip > 0, f"advantages.clip is {self.clip}; use a positive one, e.g. 5.")


@dataclass(frozen=True)
class EMASettings:
    """An exponential moving average of the adapter over iterations, which is then validated and published.

    Attributes:
        decay: Share of the average that stays at each step; 0 takes no average. It starts low and grows as
            ``(1 + n) / (10 + n)`` up to this after ``n`` steps.
        every: Iterations between two steps; those after the last step are not in it.
    """

    decay: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        require(0 <= self.decay < 1, f"ema.decay is {self.decay}; use 0, which takes no average, to below 1, e.g. 0.9.")
        at_least("ema.every", self.every, 1, "1 averages over every iteration")


@dataclass(frozen=True)
class MismatchSettings:
    """How far importance ratios may be from 1 before an iteration's first update, where sampling and training must agree.

    Attributes:
        warn: Above this a warning is logged; None is a tenth of ``stop``.
        stop: Above this the run stops; None is 0 in fp32 on a CPU, where calls agree exactly, and the clip range, at most 1e-3,
            elsewhere; where sampling makes other calls than training, whose ratios start from training's own, it is 1e-2.
    """

    warn: float | None = None
    stop: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("warn", self.warn), ("stop", self.stop)):
            require(value is None or value >= 0, f"mismatch.{name} is {value}; use 0 or more, e.g. 1e-3.")
        require(
            self.warn is None or self.stop is None or self.warn <= self.stop,
            f"mismatch.warn is {self.warn} but mismatch.stop is {self.stop}; warn below the threshold that stops.",
        )
