"""Out of memory ends in a sentence: the plan, and the settings that this very run's plan would save most with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from tiny_pipelines import BUILDERS, aligned
from torch import Tensor

from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import OutOfMemory
from pamela_rl.storage import read_metrics
from pamela_rl.training.memory_plan import size_text
from pamela_rl.training.people import People, personalize_users
from pamela_rl.training.personalize import Provenance
from pamela_rl.training.plan import plan_run
from pamela_rl.training.shortage import is_shortage, reliefs
from pamela_rl.types import RewardOutput

CONFIG = TrainConfig(
    num_iterations=3,
    images_per_iteration=8,
    group_size=4,
    batch_size=8,
    checkpoint_every=10,
    sampling=SamplingConfig(num_inference_steps=3, train_steps=2),
    lora=LoraSettings(rank=2, alpha=2),
    validation=ValidationSettings(every=0, num_images=2),
)
NAMED = re.compile(r"(--\S+ \S+) \(([\d.]+ \w+) less")


@pytest.fixture
def tiny() -> Policy:
    return policy_for(aligned(BUILDERS["StableDiffusionPipeline"]()), 32, 32)


def test_the_settings_named_save_what_the_plan_says_and_nothing_stays_changed(tiny: Policy) -> None:
    found = {relief.flag: relief for relief in reliefs(tiny, CONFIG, NFT(), 1, [])}
    before, half = plan_run(tiny, CONFIG, NFT(), 1), plan_run(tiny, replace(CONFIG, batch_size=4), NFT(), 1)
    assert found["--train.batch_size 4"].saved == before.memory.total - half.memory.total > 0
    tiny.denoiser.enable_gradient_checkpointing()
    checkpointed = plan_run(tiny, CONFIG, NFT(), 1).memory.total
    assert "--model.gradient_checkpointing true" not in {r.flag for r in reliefs(tiny, CONFIG, NFT(), 1, [])}
    tiny.denoiser.disable_gradient_checkpointing()
    assert found["--model.gradient_checkpointing true"].saved == before.memory.total - checkpointed > 0
    saved = [relief.saved for relief in found.values()]
    assert saved == sorted(saved, reverse=True)
    assert [flag for flag, relief in found.items() if not relief.goes_on] != []
    assert not tiny.offload
    assert not tiny.denoiser.is_gradient_checkpointing
    assert plan_run(tiny, CONFIG, NFT(), 1) == before


def test_a_run_out_of_memory_names_its_plan_and_goes_on_with_what_it_names(tiny: Policy, tmp_path: Path) -> None:
    calls = []

    def hungry(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return darkness(images, prompts, user_ids)

    people = People(
        tiny, hungry, ["a boat"], ["ada", "ben"], CONFIG, NFT(), tmp_path, Accelerator(cpu=True), Provenance("tiny", "dark"),
        {}, 1,
    )  # fmt: skip
    planned = plan_run(tiny, CONFIG, NFT(), 1).memory.total
    with pytest.raises(OutOfMemory, match=rf"^out of memory; planned were about {size_text(planned)} \(base") as error:
        personalize_users(people)
    best = reliefs(tiny, CONFIG, NFT(), 1, [])[:3]
    assert NAMED.findall(str(error.value)) == [(relief.flag, size_text(relief.saved)) for relief in best]
    assert len(calls) == 3  # nobody else is tried
    assert '"iteration": 2' in (tmp_path / "users" / "ada" / "checkpoint" / "state.json").read_text(encoding="utf-8")
    outcomes = personalize_users(replace(people, config=replace(CONFIG, batch_size=4)))
    assert all(outcome.adapter for outcome in outcomes)
    assert [row["iteration"] for row in read_metrics(tmp_path / "users" / "ada" / "metrics.jsonl")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_is_short(error: Exception, short: bool) -> None:
    assert is_shortage(error) == short
