"""Settings of drawing images to be rated; checked without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

from pamela_rl.config.checks import refuse_unused
from pamela_rl.data.prompts import check_prompt_file
from pamela_rl.diffusion.saved_adapters import find_adapter
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.rated_drawing import RatedDrawing
from pamela_rl.evaluation.rating_folder import DrawnImages, own_images
from pamela_rl.evaluation.settings import check_counts
from pamela_rl.rewards.saved import SavedReward, check_rewards
from pamela_rl.storage import SHIPPED_PIPELINES


@dataclass(frozen=True)
class DrawSettings:
    """What to draw, or whose images to take, for whom to rate.

    Attributes:
        output_dir: Gets images, ratings.csv and rate.html; None is outputs/to_rate. The same command again draws what is
            missing, a larger num_images adds more, and ratings in it are kept.
        prompts: One a line, gone through in turn; the world has its own.
        num_images: Of all prompts together.
        model: The base model.
        adapter: Folder of an adapter to draw with, or of a finished run, with user.
        user: Whose adapter of the run.
        num_inference_steps: None takes the adapter's, else the pipeline's own number, 20 in the world.
        guidance_scale: 1 draws without guidance; None takes the adapter's, else the pipeline's own, 1 in the world.
        negative_prompt: For guidance; None takes the adapter's, else none.
        batch_size: Images a call.
        seed: Of the noise.
        images: A folder of images of your own, to be rated instead; it gets the table and the page.
        reward: What pamela fit wrote; with it, images are kept whose rating would tell most about user.
        num_candidates: Images drawn to choose those from.
    """

    output_dir: Path | None = None
    prompts: Path | None = None
    num_images: int = 60
    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: Path | None = None
    user: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    batch_size: int = 8
    seed: int = 0
    images: Path | None = None
    reward: Path | None = None
    num_candidates: int = 200

    def __post_init__(self) -> None:
        if self.images is not None:
            others = [setting.name for setting in fields(self) if setting.name != "images"]
            refuse_unused(self, others, "images are your own, so nothing is drawn")
            own_images(self.images)
            return
        check_counts(num_images=self.num_images)
        if self.reward is not None:
            if self.num_candidates < self.num_images:
                raise ConfigError(f"num_candidates is {self.num_candidates}, fewer than num_images; use e.g. 200.")
            check_rewards(self.reward, None, [self.asked])
        else:
            refuse_unused(self, ("num_candidates",), "there is no reward to choose by")
            if self.adapter is None:
                refuse_unused(self, ("user",), "there is neither an adapter of theirs nor a reward")
        check_prompt_file(self.prompts, None if self.in_world else f"the base model is {self.model.name}")
        DrawnImages.read(self.folder, self.drawing.facts())

    @property
    def asked(self) -> str:
        """Who will rate, where a reward chooses."""
        known = SavedReward.read(self.reward).user_ids if self.reward is not None else ()
        return self.user or (known[0] if len(known) == 1 else "")

    @property
    def in_world(self) -> bool:
        """Whether a shipped model draws."""
        return self.model.name in SHIPPED_PIPELINES

    @property
    def folder(self) -> Path:
        """Where images are drawn to."""
        return self.output_dir or Path("outputs/to_rate")

    @property
    def drawing(self) -> RatedDrawing:
        """How each image is drawn."""
        adapter = None if self.adapter is None else find_adapter(self.adapter, self.user)
        return RatedDrawing(
            self.model,
            adapter,
            self.num_inference_steps,
            self.guidance_scale,
            self.negative_prompt,
            self.batch_size,
            self.seed,
        )
