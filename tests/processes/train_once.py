"""Trains two iterations on however many processes it is launched with, and saves the adapter; run by test_processes.py."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import EMASettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.training.personalize import Provenance, personalize
from pamela_rl.training.processes import open_policy
from pamela_rl.types import RewardOutput


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("processes", type=int)
    parser.add_argument("--algorithms", nargs="+", default=["ddpo"])
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--late", type=int, help="a process that is slow to score")
    parser.add_argument("--dies", type=int, help="a process whose reward breaks")
    parser.add_argument("--shard", action="store_true", help="cut the base model over the processes")
    return parser.parse_args()


ALGORITHMS: dict[str, Algorithm] = {
    "ddpo": DDPO(num_updates=2, kl_weight=0.1, learning_rate=4e-3),
    "nft": NFT(num_updates=2, learning_rate=4e-3),
    "draft": DRaFT(num_updates=2, num_steps=2, learning_rate=4e-3),
}


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == given.processes, accelerator.num_processes
    for name in given.algorithms:
        train(name, given, accelerator)
    accelerator.end_training()


def train(name: str, given: argparse.Namespace, accelerator: Accelerator) -> None:
    me, seen = accelerator.process_index, []

    def darkness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        if torch.is_grad_enabled():  # a reward's gradient is asked for pictures already seen
            return RewardOutput(-images.mean(dim=(1, 2, 3)))
        seen.append(images)
        if me == given.late and len(seen) in (1, 5):  # at the first look, and in the middle of an iteration
            time.sleep(4)
        if me == given.dies and len(seen) > 2:
            raise RuntimeError("the reward of one process broke")
        return RewardOutput(-images.mean(dim=(1, 2, 3)))

    config = TrainConfig(
        num_iterations=2,
        images_per_iteration=8,
        group_size=4,
        batch_size=given.batch_size,
        checkpoint_every=1,
        sampling=SamplingConfig(num_inference_steps=4, train_steps=3 if name == "ddpo" else 2),
        ema=EMASettings(decay=0.0 if name == "ddpo" else 0.5),
        validation=ValidationSettings(every=1, num_images=4),
    )
    policy = open_policy(ModelSettings(height=32, width=32, shard=given.shard), accelerator)
    prompts, made_of = PromptSource(["a boat", "a tree"], "ada"), Provenance("world", "darkness")
    folder = given.folder / name
    monitors = {"judge": darkness}
    personalize(policy, darkness, prompts, config, ALGORITHMS[name], folder, accelerator, made_of, monitors, 2)
    save_file({"images": torch.cat([images for images in seen if len(images) == 8 // given.processes])},
              str(folder / f"pictures-{me}.safetensors"))  # fmt: skip


if __name__ == "__main__":
    main()
