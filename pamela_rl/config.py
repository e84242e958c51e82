"""Frozen settings that check themselves; recipes fill them from YAML and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pamela_rl.errors import ConfigError

FlowNoise = Literal["flow_sde", "cps", "dance"]
AdvantageScale = Literal["group", "batch"]
FLOW_NOISES: tuple[str, ...] = get_args(FlowNoise)
Tracker = Literal["tensorboard", "wandb", "trackio"]
AlgorithmChoice = str | dict[str, Any]  # a name, or a mapping with a name and settings


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ConfigError(sentence)


def _at_least(name: str, value: float, least: float, remedy: str) -> None:
    _require(value >= least, f"{name} is {value}; it must be at least {least}: {remedy}.")


def _check_division(name: str, value: int, by_name: str, by: int) -> None:
    below, above = value // by * by, -(-value // by) * by
    _require(
        below == value,
        f"{name} is {value} but {by_name} is {by}; use a multiple of {by}, e.g. {below or above} or {above}.",
    )


@dataclass(frozen=True)
class SamplingConfig:
    """How images are sampled while training.

    Attributes:
        num_inference_steps: Denoising steps an image.
        eta: Noise of each stochastic step: DDIM's eta (1 is DDPO's), or for flow models Flow-GRPO's a (.7), CPS's a (.8) or
            DanceGRPO's eta (.3). None is the one named for algorithms that need noise, and 0, no noise, for the others.
        flow_noise: How flow models add noise: "flow_sde", "cps" or "dance"; diffusion models ignore it.
        window_start: First stochastic step, counted from 0.
        window_size: Stochastic steps; the others are deterministic. None is all from the first on.
        guidance_scale: Of classifier-free guidance, or the input of a guidance-distilled model; 1 is none.
        negative_prompt: Of the unconditional branch.
        train_steps: Denoising steps of each image that are trained, chosen at random for every image. Algorithms that
            learn from final images take as many noise levels.
    """

    num_inference_steps: int = 10
    eta: float | None = None
    flow_noise: FlowNoise = "flow_sde"
    window_start: int = 0
    window_size: int | None = None
    guidance_scale: float = 1.0
    negative_prompt: str = ""
    train_steps: int = 4

    def __post_init__(self) -> None:
        _at_least("sampling.num_inference_steps", self.num_inference_steps, 1, "e.g. 10 for the world, 50 for SD 1.5")
        _require(self.eta is None or 0 <= self.eta <= 1, f"sampling.eta is {self.eta}; use 0 to 1, e.g. 1.0.")
        _at_least("sampling.guidance_scale", self.guidance_scale, 1.0, "1 means no guidance")
        kinds = ", ".join(FLOW_NOISES)
        _require(self.flow_noise in FLOW_NOISES, f"sampling.flow_noise is {self.flow_noise!r}; use one of {kinds}.")
        last = self.num_inference_steps - 1
        told = f"sampling.window_start is {self.window_start}; with {last + 1} denoising steps use 0 to {last}."
        _require(0 <= self.window_start <= last, told)
        room = self.num_inference_steps - self.window_start
        _require(
            self.window_size is None or 1 <= self.window_size <= room,
            f"sampling.window_size is {self.window_size} but {room} steps are left from step {self.window_start} on; "
            f"use 1 to {room}.",
        )
        stochastic = self.window_size or room
        told = f"sampling.train_steps is {self.train_steps} but {stochastic} denoising steps have noise"
        _require(1 <= self.train_steps <= stochastic, f"{told}; use 1 to {stochastic}.")

    @property
    def window(self) -> tuple[int, int]:
        """First stochastic step and the one after the last."""
        size = self.window_size or self.num_inference_steps - self.window_start
        return self.window_start, self.window_start + size


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
        _require(self.scale in scales, f"advantages.scale is {self.scale!r}; use one of {', '.join(scales)}.")
        _require(self.clip > 0, f"advantages.clip is {self.clip}; use a positive one, e.g. 5.")


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
        _require(
            0 <= self.decay < 1, f"ema.decay is {self.decay}; use 0, which takes no average, to below 1, e.g. 0.9."
        )
        _at_least("ema.every", self.every, 1, "1 averages over every iteration")


@dataclass(frozen=True)
class LoraSettings:
    """The adapter's size.

    Attributes:
        rank: Width of each LoRA layer.
        alpha: The adapter's output is scaled by ``alpha / rank``.
    """

    rank: int = 8
    alpha: int = 8

    def __post_init__(self) -> None:
        _at_least("lora.rank", self.rank, 1, "4 to 32 is usual")
        _at_least("lora.alpha", self.alpha, 1, "rank or twice the rank is usual")


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
    max_bad_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("std_weight", "adherence_weight", "diversity_weight"):
            _at_least(f"reward.{name}", getattr(self, name), 0, "0 leaves it out")
        share = self.max_bad_share
        _require(0 <= share <= 1, f"reward.max_bad_share is {share}; it is a share: use 0 to 1, e.g. 0.5.")


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
            _require(value is None or value >= 0, f"mismatch.{name} is {value}; use 0 or more, e.g. 1e-3.")
        _require(
            self.warn is None or self.stop is None or self.warn <= self.stop,
            f"mismatch.warn is {self.warn} but mismatch.stop is {self.stop}; warn below the threshold that stops.",
        )


IMAGES_PER_PROMPT = 2  # of a validation, so that diversity can be measured


@dataclass(frozen=True)
class ValidationSettings:
    """How often the same images are sampled while training, and whether the judge may stop the run early.

    Attributes:
        every: Iterations between two validations; 0 never validates.
        num_images: Images of a validation, two of each prompt.
        patience: Validations without a rise of the judge's mean after which the run stops and keeps the adapter with the
            highest; 0 always runs to the end and keeps the last.
        strengths: At which the finished adapter is sampled too; where there is a judge, the weakest of them that it finds
            as good as the best is recommended in the adapter's card. None samples none.
    """

    every: int = 5
    num_images: int = 24
    patience: int = 0
    strengths: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        _at_least("validation.every", self.every, 0, "0 never validates, 5 is every fifth iteration")
        _at_least("validation.num_images", self.num_images, 2, "24 is two images of twelve prompts")
        _check_division("validation.num_images", self.num_images, "the number of images a prompt", IMAGES_PER_PROMPT)
        _at_least(
            "validation.patience", self.patience, 0, "0 runs to the end, 3 stops after three validations without gain"
        )
        _require(
            all(strength > 0 for strength in self.strengths),
            f"validation.strengths is {self.strengths}; use positive numbers, e.g. [0.5, 0.75, 1.0]: 0 is the base model.",
        )
        _require(
            not self.patience or self.every > 0,
            f"validation.patience is {self.patience} but validation.every is 0, so there is nothing to stop by; set validation.every.",
        )


@dataclass(frozen=True)
class TrainConfig:
    """One user's run.

    Attributes:
        num_iterations: Cycles of sampling, scoring and updating.
        images_per_iteration: Images sampled and scored in one iteration, over all processes.
        group_size: Images of each prompt, over which advantages are normalised.
        seed: Every random number follows from it, the iteration, the image and the step.
        batch_size: Images in one denoiser call that is learned from; changes memory and speed only.
        sampling_batch_size: Images in one that samples, which keeps no activations; None is as many.
        checkpoint_every: Iterations between two checkpoints.
    """

    num_iterations: int = 30
    images_per_iteration: int = 48
    group_size: int = 12
    seed: int = 0
    batch_size: int = 48
    sampling_batch_size: int | None = None
    checkpoint_every: int = 5
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    advantages: AdvantageSettings = field(default_factory=AdvantageSettings)
    ema: EMASettings = field(default_factory=EMASettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    mismatch: MismatchSettings = field(default_factory=MismatchSettings)

    def __post_init__(self) -> None:
        _at_least("num_iterations", self.num_iterations, 1, "30 suffices in the world, 100 is usual for SD 1.5")
        _at_least("group_size", self.group_size, 2, "an image alone in its group has no advantage")
        _at_least("images_per_iteration", self.images_per_iteration, self.group_size, "at least one whole group")
        _check_division("images_per_iteration", self.images_per_iteration, "group_size", self.group_size)
        _at_least("checkpoint_every", self.checkpoint_every, 1, "1 saves after every iteration")
        for name, value in (("batch_size", self.batch_size), ("sampling_batch_size", self.sampled_at_once)):
            _at_least(name, value, 1, "as many images as memory holds")
        for name in ("adherence_weight", "diversity_weight"):
            weight = getattr(self.reward, name)
            _require(
                not (self.advantages.separate_parts and weight),
                f"advantages.separate_parts compares parts by themselves, but reward.{name} is {weight}, which is "
                "subtracted from their sum; set one of them to 0.",
            )
        if self.ema.decay:
            for name, least in (("num_iterations", self.num_iterations), ("validation.every", self.validation.every)):
                _require(
                    self.ema.every <= least or (name == "validation.every" and not self.validation.patience),
                    f"ema.every is {self.ema.every} but {name} is {least}, so the average would not have moved by then; "
                    f"use 1 to {least}.",
                )

    def saves_after(self, iterations: int) -> bool:
        """Tell whether a checkpoint is due after so many iterations."""
        return iterations % self.checkpoint_every == 0 or iterations == self.num_iterations

    @property
    def sampled_at_once(self) -> int:
        """Images in one denoiser call that samples."""
        return self.batch_size if self.sampling_batch_size is None else self.sampling_batch_size

    @property
    def prompts_per_iteration(self) -> int:
        """Different prompts an iteration, over all processes."""
        return self.images_per_iteration // self.group_size
