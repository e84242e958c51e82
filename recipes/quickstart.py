"""From nothing to a report: four people of the embedded world, their rewards, their adapters, and what came of it.

pamela quickstart
pamela quickstart --config quickstart.yaml --num_users 8 --output_dir outputs/eight
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pamela_rl.cli.command_line import run
from pamela_rl.cli.given_command import given_command
from pamela_rl.config import AlgorithmChoice, Tracker, TrainConfig
from pamela_rl.errors import ConfigError
from pamela_rl.world.algorithm_settings import open_tuned_algorithm


@dataclass(frozen=True)
class QuickstartConfig:
    """The quickstart's settings.

    Attributes:
        output_dir: The run's folder.
        num_users: People who get an adapter; the first two are the most opposite of all.
        held_out_prompts: Prompts to compare on, at most 16.
        seeds_per_prompt: Pictures of each prompt and arm.
        num_inference_steps: Denoising steps of the pictures compared.
        model: Of the world's two: a Stable Diffusion pipeline, or its flow-matching twin, a Stable Diffusion 3 pipeline.
        trackers: Where to show the run besides its own record: tensorboard, wandb, trackio.
        algorithm: How adapters learn: a name, or a mapping with a name and settings; what is not given is as tuned for the
            world.
        train: Of each adapter.
    """

    output_dir: Path = Path("outputs/quickstart")
    num_users: int = 4
    held_out_prompts: int = 16
    seeds_per_prompt: int = 2
    num_inference_steps: int = 20
    model: Literal["world", "flow"] = "world"
    trackers: list[Tracker] = field(default_factory=list)
    algorithm: AlgorithmChoice = "ddpo"
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not 2 <= self.num_users <= 20:
            raise ConfigError(f"num_users is {self.num_users}; use 2 to 20, since everyone is compared with another.")
        if not 1 <= self.held_out_prompts <= 16:
            raise ConfigError(f"held_out_prompts is {self.held_out_prompts}; the world has 16: use 1 to 16.")
        if self.seeds_per_prompt < 1:
            raise ConfigError(f"seeds_per_prompt is {self.seeds_per_prompt}; use 1 or more.")
        if self.num_inference_steps < 1:
            raise ConfigError(f"num_inference_steps is {self.num_inference_steps}; use 1 or more, e.g. 20.")
        open_tuned_algorithm(self.algorithm, self.model).check(self.train)


def quickstart(config: QuickstartConfig) -> None:
    """Run the whole job and say where the report is."""
    from pamela_rl.training.processes import new_accelerator
    from pamela_rl.world.quickstart import run_quickstart

    run_quickstart(
        config.output_dir, config.model, config.num_users, open_tuned_algorithm(config.algorithm, config.model), config.train,
        new_accelerator(config.output_dir, config.trackers), held_out_prompts=config.held_out_prompts,
        seeds_per_prompt=config.seeds_per_prompt, num_inference_steps=config.num_inference_steps,
        command=given_command(),
    )  # fmt: skip


if __name__ == "__main__":
    run(QuickstartConfig, __doc__ or "", quickstart)
