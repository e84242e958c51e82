"""Where the time of one DDPO iteration goes on the embedded world, and what the cut into denoiser calls costs.

python benchmarks/iteration.py

Each batch size is timed in turn, five rounds; medians, and ratios to the largest batch within the same rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.config import TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.types import RewardOutput
from pamela_rl.world.captions import train_and_held_out_prompts

BATCH_SIZES = (48, 24, 12, 4)
ROUNDS = 5


def encoder_alone(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """DDPO takes no reward's gradient; advantages are random."""
    raise AssertionError("DDPO asked for the reward's gradient")


def main() -> None:
    """Print one row a batch size."""
    accelerator = Accelerator()
    policy = policy_for(load_pipeline("world"))
    policy.pipeline.to(accelerator.device)
    encoder = FeatureEncoder.load(WORLD_ENCODER, str(accelerator.device))
    config = TrainConfig()
    optimizer = torch.optim.AdamW(add_adapter(policy, "benchmark", config.lora, 0), lr=1e-6)
    batch = PromptSource(train_and_held_out_prompts()[0], "nobody").draw(0, config.prompts_per_iteration, 12, 0)
    seconds: dict[tuple[int, str], list[float]] = {}

    def timed(size: int, name: str, started: float) -> float:
        now = time.perf_counter()
        seconds.setdefault((size, name), []).append(now - started)
        return now

    for iteration in range(ROUNDS + 1):  # the first warms up
        for size in BATCH_SIZES:
            cut = replace(config, batch_size=size)
            clock = time.perf_counter()
            trajectory = rollout(policy, batch, cut.sampling, 0, iteration, size)
            clock = timed(size, "rollout", clock)
            encoder.encode(trajectory.images, batch.prompts)
            clock = timed(size, "features", clock)
            advantages = torch.randn(len(batch), device=accelerator.device)
            learner = Learner(accelerator, policy, optimizer, cut, encoder_alone)
            stats = DDPO().update(
                learner, Experience(iteration, batch, cut.sampling, trajectory, advantages, torch.ones(len(batch)))
            )
            timed(size, "update", clock)
            assert stats["train/sampling_mismatch"] == 0.0
    print(f"{torch.get_num_threads()} threads, {accelerator.device}, {len(batch)} images an iteration")
    print("batch  rollout  features   update    total  images/s  total / total of 48")
    for size in BATCH_SIZES:
        parts = {name: statistics.median(seconds[size, name][1:]) for name in ("rollout", "features", "update")}
        totals = {s: [sum(v) for v in zip(*(seconds[s, n][1:] for n in parts), strict=True)] for s in (size, 48)}
        ratio = statistics.median(a / b for a, b in zip(totals[size], totals[48], strict=True))
        total = sum(parts.values())
        cells = "  ".join(f"{value:6.2f} s" for value in [*parts.values(), total])
        print(f"{size:5d} {cells}  {len(batch) / total:8.1f}  {ratio:.2f}")


if __name__ == "__main__":
    main()
