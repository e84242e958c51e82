"""Images to rate, drawn by a base model, with or without an adapter, or your own; with a table and a page to rate them on.

python recipes/draw.py --model.name stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts prompts.txt --output_dir my/pictures
python recipes/draw.py --images my/photos                                    # your own: only the table and the page
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.data.prompts import check_prompt_file, read_prompts
from pamela_rl.diffusion.saved_adapters import find_adapter
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.rated_drawing import RatedDrawing
from pamela_rl.evaluation.rating_folder import DrawnImages, next_steps, own_images, update_ratings
from pamela_rl.evaluation.settings import check_counts
from pamela_rl.storage import SHIPPED_PIPELINES


@dataclass(frozen=True)
class DrawConfig:
    """The recipe's settings.

    Attributes:
        output_dir: Gets images, ratings.csv and rate.html; None is outputs/to_rate. The same command again draws what is
            missing, a larger num_images adds more, and ratings in it are kept.
        prompts: One a line, gone through in turn; the world has its own.
        num_images: Of all prompts together.
        model: The base model.
        adapter: Folder of an adapter to draw with, or of a finished run, with user.
        user: Whose adapter of the run.
        num_inference_steps: None takes the pipeline's own number, 20 in the world.
        guidance_scale: 1 draws without guidance; None takes the pipeline's own, 1 in the world. Best as in training.
        batch_size: Images a call.
        seed: Of the noise.
        images: A folder of images of your own, to be rated instead; it gets the table and the page.
    """

    output_dir: Path | None = None
    prompts: Path | None = None
    num_images: int = 60
    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: Path | None = None
    user: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    batch_size: int = 8
    seed: int = 0
    images: Path | None = None

    def __post_init__(self) -> None:
        if self.images is not None:
            if self.output_dir is not None or self.adapter is not None or self.prompts is not None:
                raise ConfigError(
                    "images are your own, so nothing is drawn: leave out output_dir, adapter and prompts."
                )
            own_images(self.images)
            return
        check_counts(num_images=self.num_images)
        check_prompt_file(self.prompts, None if self.in_world else f"the base model is {self.model.name}")
        DrawnImages.read(self.folder, self.drawing.facts())

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
        steps, guidance = self.num_inference_steps, self.guidance_scale
        return RatedDrawing(self.model, adapter, steps, guidance, self.batch_size, self.seed)


def draw(config: DrawConfig) -> None:
    """Draw what is missing, or take the images that are there; write the table and the page; say what is next."""
    if config.images is not None:
        sheet = update_ratings(config.images, own_images(config.images))
        print(next_steps(config.images, sheet))
        return
    from pamela_rl.evaluation.draw_to_rate import draw_missing
    from pamela_rl.world.captions import train_and_held_out_prompts

    prompts = train_and_held_out_prompts()[0] if config.prompts is None else read_prompts(config.prompts)
    sheet = draw_missing(config.folder, config.drawing, prompts, config.num_images)
    print(next_steps(config.folder, sheet))


if __name__ == "__main__":
    run(DrawConfig, __doc__ or "", draw)
