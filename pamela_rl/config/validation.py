"""How a training is watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pamela_rl.config.checks import at_least, check_division, require

Tracker = Literal["tensorboard", "wandb", "trackio"]
IMAGES_PER_PROMPT = 2  # of a validation, so that diversity can be measured


@dataclass(frozen=True)
class ValidationSettings:
    """How often the same images are sampled while training, as people will draw them, and whether the judge may stop the run.

    Attributes:
        every: Iterations between two validations; 0 never validates.
        num_images: Images of a validation, two of each prompt.
        prompts: A file of prompts to validate on, one a line, of which none is trained on. None keeps every fifth of the training's
            apart; with fewer than ten it validates on these themselves.
        num_inference_steps: Denoising steps, without added noise; None is as many as of the sample images beside the adapter.
        guidance_scale: 1 draws without guidance; None is training's. Sample images are drawn with it, too.
        patience: Validations without a rise of the judge's mean after which the run stops and keeps the adapter with the
            highest; 0 always runs to the end and keeps the last.
        strengths: At which the finished adapter is sampled too; where there is a judge, the weakest of them that it finds
            as good as the best is recommended in the adapter's card. None samples none.
    """

    every: int = 5
    num_images: int = 24
    prompts: Path | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    patience: int = 0
    strengths: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        at_least("validation.every", self.every, 0, "0 never validates, 5 is every fifth iteration")
        at_least("validation.num_images", self.num_images, 2, "24 is two images of twelve prompts")
        check_division("validation.num_images", self.num_images, "the number of images a prompt", IMAGES_PER_PROMPT)
        at_least(
            "validation.patience", self.patience, 0, "0 runs to the end, 3 stops after three validations without gain"
        )
        if self.num_inference_steps is not None:
            at_least("validation.num_inference_steps", self.num_inference_steps, 1, "as many as people will use")
        if self.guidance_scale is not None:
            at_least("validation.guidance_scale", self.guidance_scale, 1.0, "1 means no guidance")
        require(
            self.prompts is None or self.samples,
            f"validation.prompts is {self.prompts} but validation.every is 0 and there are no validation.strengths, so nothing is "
            "sampled for them; set one of these, or leave the prompts out.",
        )
        require(
            all(strength > 0 for strength in self.strengths),
            f"validation.strengths is {self.strengths}; use positive numbers, e.g. [0.5, 0.75, 1.0]: 0 is the base model.",
        )
        require(
            not self.patience or self.every > 0,
            f"validation.patience is {self.patience} but validation.every is 0, so there is nothing to stop by; set validation.every.",
        )

    @property
    def decisive(self) -> list[str]:
        """Which settings of a run decide what it keeps: with patience, those under which scores can be compared."""
        names = ("prompts", "num_images", "num_inference_steps", "guidance_scale") if self.patience else ()
        return [f"validation.{name}" for name in names]

    @property
    def samples(self) -> bool:
        """Whether anything is sampled to watch the training, while it goes on or at its end."""
        return bool(self.every or self.strengths)
