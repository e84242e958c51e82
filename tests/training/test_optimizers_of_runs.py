from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from test_loop import PROMPTS, SHORT, darkness
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.optimizers import OptimizerSettings
from pamela_rl.config import EMASettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.diffusion.adapters import adapter_state, remove_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import CheckpointError
from pamela_rl.storage import read_metrics
from pamela_rl.training.checkpoint import load_checkpoint
from pamela_rl.training.loop import train
from pamela_rl.types import RewardOutput, Verdict

FREE = DDPO(learning_rate=3e-3, clip_range=1e-3, optimizer="adamw_schedule_free")
FALLING = OptimizerSettings(schedule="linear", warmup_steps=2)


SMALL = replace(
    SHORT, images_per_iteration=8, group_size=4, batch_size=8, sampling=SamplingConfig(num_inference_steps=3, train_steps=2)
)  # fmt: skip


class Killed(Exception):
    """Stands for a machine that went away."""


def flat(state: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([state[name].flatten() for name in sorted(state)])


def trained(policy: Policy, config: TrainConfig, algorithm: DDPO | NFT, folder: Path, on: Accelerator) -> Tensor:
    name = train(policy, darkness, PROMPTS, config, algorithm, folder, on)
    weights = flat(adapter_state(policy, name))
    remove_adapter(policy, name)
    return weights


@pytest.mark.parametrize("algorithm", [FREE, DDPO(learning_rate=1.0, optimizer="prodigy")])
def test_a_killed_run_ends_as_one_that_was_not_whatever_its_optimizer(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path, algorithm: DDPO
) -> None:
    whole = trained(small_policy, SMALL, algorithm, tmp_path / "whole", accelerator)
    calls = []

    def dies(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return darkness(images, prompts, user_ids)

    with pytest.raises(Killed):
        train(small_policy, dies, PROMPTS, SMALL, algorithm, tmp_path / "killed", accelerator)
    remove_adapter(small_policy, "ada")
    assert torch.equal(whole, trained(small_policy, SMALL, algorithm, tmp_path / "killed", accelerator))


def test_a_run_without_a_schedule_publishes_the_average_and_not_where_gradients_are_taken(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    train(small_policy, darkness, PROMPTS, SMALL, FREE, tmp_path, accelerator)
    trained = small_policy.adapters["ada"]
    published, saved = trained.weights.detach().clone(), load_checkpoint(tmp_path / "checkpoint")
    assert saved is not None
    trained.load(saved.adapter)
    at, other_end = trained.weights.detach(), saved.optimizer["0.z"]
    torch.testing.assert_close(published, at + (other_end - at) * (1 - 1 / 0.9))
    assert not torch.equal(published, at)
    assert "train/sampling_mismatch" in read_metrics(tmp_path / "metrics.jsonl")[0]  # 0 there, or the run had stopped


def test_rates_follow_the_run_over_a_resume_and_its_length_is_fixed(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    algorithm = NFT(learning_rate=1e-3, num_updates=2, optimizer=FALLING)
    trained(small_policy, SMALL, algorithm, tmp_path, accelerator)
    rates = [row["train/learning_rate"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.25e-3])  # of the second update of each iteration
    with pytest.raises(CheckpointError, match="num_iterations: there 3, here 5"):
        trained(small_policy, replace(SMALL, num_iterations=5), algorithm, tmp_path, accelerator)


def test_the_best_adapter_that_is_kept_is_the_average_that_was_validated(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    def judge(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        return Verdict(-images.mean(dim=(1, 2, 3)))

    config = replace(
        SMALL, ema=EMASettings(decay=0.9), validation=ValidationSettings(every=1, num_images=2, patience=9)
    )
    train(small_policy, darkness, PROMPTS, config, DDPO(learning_rate=3e-3), tmp_path, accelerator, {"judge": judge})
    best, last = load_checkpoint(tmp_path / "best"), load_checkpoint(tmp_path / "checkpoint")
    assert best is not None
    assert last is not None
    assert best.iteration == 3  # else the last checkpoint has other copies
    small_policy.adapters["ada"].load(best.adapter)
    assert torch.equal(small_policy.adapters["ada"].weights, last.copies["ema"])
