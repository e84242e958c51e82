"""One user's run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pamela_rl.config.checks import BESIDE, at_least, check_division, require
from pamela_rl.config.keeping import KeepSettings
from pamela_rl.config.learning import AdvantageSettings, EMASettings, MismatchSettings, RewardSettings
from pamela_rl.config.lora import LoraSettings
from pamela_rl.config.sampling import SamplingConfig
from pamela_rl.config.validation import ValidationSettings


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
    batch_size: int = field(default=48, metadata=BESIDE)
    sampling_batch_size: int | None = field(default=None, metadata=BESIDE)
    checkpoint_every: int = field(default=5, metadata=BESIDE)
    keep: KeepSettings = field(default_factory=KeepSettings, metadata=BESIDE)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    advantages: AdvantageSettings = field(default_factory=AdvantageSettings)
    ema: EMASettings = field(default_factory=EMASettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings, metadata=BESIDE)
    mismatch: MismatchSettings = field(default_factory=MismatchSettings, metadata=BESIDE)

    def __post_init__(self) -> None:
        at_least("num_iterations", self.num_iterations, 1, "30 suffices in the world, 100 is usual for SD 1.5")
        at_least("group_size", self.group_size, 2, "an image alone in its group has no advantage")
        at_least("images_per_iteration", self.images_per_iteration, self.group_size, "at least one whole group")
        check_division("images_per_iteration", self.images_per_iteration, "group_size", self.group_size)
        at_least("checkpoint_every", self.checkpoint_every, 1, "1 saves after every iteration")
        for name, value in (("batch_size", self.batch_size), ("sampling_batch_size", self.sampled_at_once)):
            at_least(name, value, 1, "as many images as memory holds")
        for name in ("adherence_weight", "diversity_weight"):
            weight = getattr(self.reward, name)
            require(
                not (self.advantages.separate_parts and weight),
                f"advantages.separate_parts compares parts by themselves, but reward.{name} is {weight}, which is "
                "subtracted from their sum; set one of them to 0.",
            )
        require(
            not self.sampling.negative_prompt or self.validation.guidance_scale != 1,
            f"sampling.negative_prompt is {self.sampling.negative_prompt!r} but validation.guidance_scale is 1, which does not use "
            "it; leave one of them out.",
        )
        if self.ema.decay:
            for name, least in (("num_iterations", self.num_iterations), ("validation.every", self.validation.every)):
                require(
                    self.ema.every <= least or (name == "validation.every" and not self.validation.patience),
                    f"ema.every is {self.ema.every} but {name} is {least}, so the average would not have moved by then; "
                    f"use 1 to {least}.",
                )

    @property
    def drawn(self) -> SamplingConfig:
        """How images are sampled to be looked at: without added noise, in the steps and with the guidance of use."""
        sampling, used = self.sampling, self.validation
        return replace(
            sampling, num_inference_steps=used.num_inference_steps or sampling.num_inference_steps, eta=0.0, window_start=0,
            window_size=None, guidance_scale=used.guidance_scale or sampling.guidance_scale, train_steps=1,
        )  # fmt: skip

    def used_in(self, num_inference_steps: int) -> TrainConfig:
        """Return the settings with a validation of so many denoising steps, unless they say how many it has."""
        if self.validation.num_inference_steps is not None or not self.validation.samples:
            return self
        return replace(self, validation=replace(self.validation, num_inference_steps=num_inference_steps))

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
