"""Who joins a finished run begins from the adapters of people of like taste."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.diffusion.adapters import adapter_rank, add_adapter, read_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.mixing import mix_adapters
from pamela_rl.diffusion.policy import Policy
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.training.neighbours import nearest, newcomers, starts_of

CONFIG = TrainConfig(
    images_per_iteration=4,
    group_size=2,
    batch_size=32,
    sampling=SamplingConfig(num_inference_steps=2, train_steps=1),
    lora=LoraSettings(rank=2, alpha=4),
    validation=ValidationSettings(every=0),
)
SETTLED = [f"rater-{number:03d}" for number in (10, 20, 30, 40)]


@pytest.fixture
def run(policy: Policy, tmp_path: Path) -> Path:
    """A finished run of four people, with adapters that nobody trained."""
    for number, user in enumerate(SETTLED):
        (weights,) = add_adapter(policy, "x", CONFIG.lora, number)
        torch.nn.init.normal_(weights, std=0.1, generator=torch.Generator().manual_seed(number))
        save_adapter(policy, "x", user, tmp_path, {}, {})
        remove_adapter(policy, "x")
    pd.DataFrame({"user": SETTLED}).to_parquet(tmp_path / "users.parquet")
    return tmp_path


def test_a_newcomers_start_is_the_mean_of_three_and_stays(
    policy: Policy, world_reward: PersonalReward, run: Path
) -> None:
    known = world_reward.model.user_ids
    asked = (policy, world_reward.ratings_by, known, ["a boat", "a tree"], ["rater-000", *SETTLED], CONFIG, run, 2)
    starts = starts_of(*asked)
    assert list(starts) == ["rater-000"]
    start = read_adapter(policy, starts["rater-000"])
    assert adapter_rank(start) == CONFIG.lora.rank
    near = (run / "starts" / "rater-000" / "adapters" / "mix" / "adapter.json").read_text()
    named = [user for user in SETTLED if user in near]
    assert len(named) == 3
    states = [read_adapter(policy, run / "adapters" / user) for user in named]
    wanted = mix_adapters(states, [1 / 3] * 3)
    for name in (key for key in wanted if "lora_A" in key):
        other = name.replace("lora_A", "lora_B")
        torch.testing.assert_close(start[other] @ start[name], wanted[other] @ wanted[name], atol=1e-4, rtol=1e-4)
    pd.DataFrame({"user": [*SETTLED, "rater-000"]}).to_parquet(run / "users.parquet")  # the command has ended
    (run / "adapters" / SETTLED[0] / "adapter.json").unlink()
    assert starts_of(*asked) == starts
    assert read_adapter(policy, starts["rater-000"]).keys() == start.keys()


def test_without_a_finished_run_or_with_another_rank_nobody_begins_elsewhere(
    policy: Policy, world_reward: PersonalReward, run: Path
) -> None:
    known = world_reward.model.user_ids
    other = replace(CONFIG, lora=LoraSettings(rank=3, alpha=4))
    assert starts_of(policy, world_reward.ratings_by, known, ["a boat"], ["rater-000"], other, run, 2) == {}
    assert newcomers(run, ["rater-000", SETTLED[0]]) == (["rater-000"], SETTLED)
    (run / "users.parquet").unlink()
    assert newcomers(run, ["rater-000"]) == ([], [])
    pd.DataFrame({"user": SETTLED[:2]}).to_parquet(run / "users.parquet")
    assert newcomers(run, ["rater-000"]) == ([], [])  # too few


def test_the_nearest_are_those_who_rank_images_alike() -> None:
    mine = torch.tensor([1.0, 2.0, 3.0, 4.0])
    scores: dict[str, Tensor] = {
        "me": mine, "same": 5 + 0.1 * mine, "opposite": -mine, "other": torch.tensor([2.0, 1.0, 4.0, 3.0]),
        "like": torch.tensor([1.0, 2.0, 4.0, 3.0]), "flat": torch.zeros(4),
    }  # fmt: skip
    assert nearest("me", ["opposite", "flat", "other", "like", "same"], scores) == ["same", "like", "other"]
