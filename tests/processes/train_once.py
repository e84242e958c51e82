"""Trains two iterations on however many processes it is launched with, and saves the adapter; run by test_processes.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from pamela_rl.config import DDPOConfig, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state
from pamela_rl.diffusion.families import policy_for
from pamela_rl.train import train
from pamela_rl.types import RewardOutput
from pamela_rl.world import load_pipeline


def darkness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(-images.mean(dim=(1, 2, 3)))


def main(folder: Path, processes: int) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == processes, accelerator.num_processes
    config = TrainConfig(
        num_iterations=2,
        images_per_iteration=8,
        group_size=4,
        batch_size=4,
        sampling=SamplingConfig(num_inference_steps=4, train_steps=3),
        ddpo=DDPOConfig(num_updates=2, kl_weight=0.1),
    )
    policy = policy_for(load_pipeline())
    name = train(policy, darkness, PromptSource(["a boat", "a tree"], "ada"), config, folder, accelerator)
    save_file(adapter_state(policy, name), str(folder / f"process-{accelerator.process_index}.safetensors"))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
