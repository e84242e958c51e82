"""Images to rate, drawn by a base model, with or without an adapter, or your own; with a table and a page to rate them on.

pamela draw --model.name stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts prompts.txt --output_dir my/pictures
pamela draw --images my/photos                                    # your own: only the table and the page
pamela draw --adapter outputs/mine --user me --reward outputs/my-reward --num_images 20 --output_dir my/second
                                    # of 200 images of your adapter the 20 whose ratings tell most: a second round
"""

from __future__ import annotations

from dataclasses import dataclass

from pamela_rl.cli.command_line import run
from pamela_rl.data.prompts import read_prompts
from pamela_rl.evaluation.draw_settings import DrawSettings
from pamela_rl.evaluation.rating_folder import next_steps, own_images, update_ratings


@dataclass(frozen=True)
class DrawConfig(DrawSettings):
    """The recipe's settings."""


def draw(config: DrawConfig) -> None:
    """Draw what is missing, or take the images that are there; write the table and the page; say what is next."""
    if config.images is not None:
        sheet = update_ratings(config.images, own_images(config.images))
        print(next_steps(config.images, sheet))
        return
    from pamela_rl.evaluation.draw_to_rate import Question, draw_informative, draw_missing
    from pamela_rl.rewards.opening import open_reward
    from pamela_rl.world.captions import train_and_held_out_prompts

    prompts = train_and_held_out_prompts()[0] if config.prompts is None else read_prompts(config.prompts)
    if config.reward is None:
        sheet = draw_missing(config.folder, config.drawing, prompts, range(config.num_images))
    else:
        question = Question(open_reward(config.reward), config.asked, config.num_candidates)
        sheet = draw_informative(config.folder, config.drawing, prompts, config.num_images, question)
    print(next_steps(config.folder, sheet))


if __name__ == "__main__":
    run(DrawConfig, __doc__ or "", draw)
