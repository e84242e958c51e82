"""Trains more iterations than anybody waits for, through the recipes' own way in; run by test_interruption.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

FOLDER = Path(sys.argv.pop())

from pamela_rl.algorithms.ddpo import DDPO  # noqa: E402
from pamela_rl.cli.command_line import run  # noqa: E402
from pamela_rl.config import SamplingConfig, TrainConfig, ValidationSettings  # noqa: E402
from pamela_rl.data.prompts import PromptSource  # noqa: E402
from pamela_rl.diffusion.families import policy_for  # noqa: E402
from pamela_rl.diffusion.loading import load_pipeline  # noqa: E402
from pamela_rl.training.loop import train  # noqa: E402
from pamela_rl.types import RewardOutput  # noqa: E402


@dataclass(frozen=True)
class Settings:
    """None."""


def darkness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(-images.mean(dim=(1, 2, 3)))


def job(settings: Settings) -> None:
    torch.set_num_threads(1)
    config = TrainConfig(
        num_iterations=10_000, images_per_iteration=4, group_size=4, batch_size=4, checkpoint_every=10_000,
        sampling=SamplingConfig(num_inference_steps=3, train_steps=2), validation=ValidationSettings(every=0),
    )  # fmt: skip
    policy = policy_for(load_pipeline("world"), 32, 32)
    train(policy, darkness, PromptSource(["a boat"], "ada"), config, DDPO(), FOLDER, Accelerator(cpu=True))


if __name__ == "__main__":
    run(Settings, "", job)
