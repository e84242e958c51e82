"""Adapters for people of your own: any base model diffusers loads, any reward that pamela fit fitted.

pamela train --config train_sd15.yaml --reward outputs/my-reward --prompts prompts.txt
pamela train --config train_sd15.yaml --config algorithms/sft.yaml --source.path my/pictures    # on the rated images alone
pamela train --config_file accelerate/multi_gpu.yaml -- --config train_sd15.yaml --reward outputs/my-reward --prompts prompts.txt
"""

from __future__ import annotations

from dataclasses import dataclass

from pamela_rl.cli.command_line import run
from pamela_rl.world.run_settings import TrainSettings


@dataclass(frozen=True)
class TrainRecipeConfig(TrainSettings):
    """The recipe's settings."""


def train_users(config: TrainRecipeConfig) -> None:
    """Train and publish one adapter a user."""
    from pamela_rl.world.own_training import train_users

    train_users(config)


if __name__ == "__main__":
    run(TrainRecipeConfig, __doc__ or "", train_users)
