from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator

from pamela_rl.config import AdvantageSettings, RewardSettings, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.errors import ConfigError
from pamela_rl.training.processes import (
    Shares,
    check_precision,
    check_processes,
    image_shares,
    local_advantages,
    padded_shares,
)
from pamela_rl.types import RewardOutput

CONFIG = TrainConfig(images_per_iteration=4, group_size=2, reward=RewardSettings(std_weight=0.0))
BATCH = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
PARTS = {"loud": torch.tensor([0.0, 100.0, 0.0, 100.0]), "quiet": torch.tensor([0.2, 0.1, 0.1, 0.2])}
MIXED = RewardOutput(PARTS["loud"] + PARTS["quiet"], None, PARTS, {"loud": 1.0, "quiet": 1.0})


def shares(accelerator: Accelerator) -> Shares:
    return Shares.of(accelerator, 4, 2)


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_blocks_of_images_are_dealt_out_in_turn(num_processes: int, batch_size: int) -> None:
    dealt = image_shares(24, num_processes, batch_size)
    assert dealt.shape == (num_processes, 24 // num_processes)
    assert sorted(dealt.flatten().tolist()) == list(range(24))
    size = min(batch_size, 24 // num_processes)
    first_blocks = [row[:size].tolist() for row in dealt]
    assert first_blocks == [list(range(p * size, (p + 1) * size)) for p in range(num_processes)]


def test_gathered_values_are_in_the_order_of_the_images() -> None:
    ids = image_shares(12, 2, 2)
    two = Shares(cast(Any, SimpleNamespace(gather=lambda values: ids.flatten() * 10, process_index=1)), ids)
    assert two.gather(torch.zeros(6)).tolist() == [10 * image for image in range(12)]
    assert two.local_ids.tolist() == [2, 3, 6, 7, 10, 11]


def test_a_precision_that_a_card_only_emulates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(dtype=torch.bfloat16, device=torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    plain = cast(Any, SimpleNamespace(mixed_precision="no"))
    with pytest.raises(ConfigError, match="bf16, which Tesla T4 only emulates; use float32"):
        check_precision(plain, cast(Any, card))
    card.dtype = torch.float32
    check_precision(plain, cast(Any, card))


def test_advantages_are_cut_and_rewards_are_not(accelerator: Accelerator) -> None:
    config = replace(CONFIG, advantages=AdvantageSettings(clip=0.25))
    rewards, advantages = local_advantages(shares(accelerator), MIXED, BATCH.group_ids, config)
    assert torch.equal(rewards, MIXED.mean)
    assert advantages.tolist() == [-0.25, 0.25, -0.25, 0.25]


def test_parts_that_are_compared_each_by_itself_can_cancel_out(accelerator: Accelerator) -> None:
    _, together = local_advantages(shares(accelerator), MIXED, BATCH.group_ids, CONFIG)
    assert together.tolist() == pytest.approx([-1, 1, -1, 1], abs=1e-3)
    apart = replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    assert local_advantages(shares(accelerator), MIXED, BATCH.group_ids, apart)[1].tolist() == pytest.approx(
        [0, 0, -2, 2], abs=1e-3
    )


def test_the_control_forgets_the_rewards(accelerator: Accelerator) -> None:
    config = replace(CONFIG, advantages=AdvantageSettings(zero=True))
    assert local_advantages(shares(accelerator), MIXED, BATCH.group_ids, config)[1].tolist() == [0, 0, 0, 0]


def test_doubt_is_subtracted_before_pictures_are_compared(accelerator: Accelerator) -> None:
    config = replace(CONFIG, reward=RewardSettings(std_weight=2.0))
    doubtful = RewardOutput(torch.tensor([1.0, 2.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    rewards, advantages = local_advantages(shares(accelerator), doubtful, BATCH.group_ids, config)
    assert rewards.tolist() == [1, 0, 1, 2]
    assert advantages.tolist() == pytest.approx([1, -1, -1, 1], abs=1e-3)


def test_parts_are_asked_for_only_where_there_are_some_and_nothing_else_would_be_lost(accelerator: Accelerator) -> None:
    apart = replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    with pytest.raises(ConfigError, match="the reward has no parts; give a weighted reward"):
        local_advantages(shares(accelerator), RewardOutput(torch.zeros(4)), BATCH.group_ids, apart)
    doubting = replace(apart, reward=RewardSettings(std_weight=0.5))
    with pytest.raises(ConfigError, match=r"reward.std_weight is 0.5, which is subtracted from their sum; set .* to 0"):
        local_advantages(shares(accelerator), replace(MIXED, std=torch.ones(4)), BATCH.group_ids, doubting)


def test_a_picture_whose_sum_is_no_number_teaches_nothing_by_its_other_parts(accelerator: Accelerator) -> None:
    apart = replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    spoilt = {"loud": PARTS["loud"], "quiet": PARTS["quiet"].index_fill(0, torch.tensor(3), torch.nan)}
    output = RewardOutput(spoilt["loud"] + spoilt["quiet"], None, spoilt, {"loud": 1.0, "quiet": 1.0})
    assert local_advantages(shares(accelerator), output, BATCH.group_ids, apart)[1][3] == 0


@pytest.mark.parametrize(
    ("processes", "settings", "sentence"),
    [
        (5, {}, r"images_per_iteration is 48 but there are 5 processes; use a multiple of 60, e\.g\. 60\.$"),
        (9, {"group_size": 6}, r"use a multiple of 18, e\.g\. 36 or 54\.$"),
    ],
)
def test_the_numbers_suggested_for_some_processes_are_allowed(
    processes: int, settings: dict[str, Any], sentence: str
) -> None:
    several = cast(Accelerator, SimpleNamespace(num_processes=processes, mixed_precision="no"))
    with pytest.raises(ConfigError, match=sentence):
        check_processes(several, TrainConfig(**settings))
    check_processes(several, TrainConfig(images_per_iteration=processes * 12))


@pytest.mark.parametrize(("images", "processes"), [(24, 16), (4, 3), (2, 16), (6, 2), (5, 1)])
def test_images_of_a_validation_are_shared_out_in_order_by_any_number_of_processes(images: int, processes: int) -> None:
    dealt = padded_shares(images, processes)
    assert len(dealt) == processes
    assert dealt.flatten()[:images].tolist() == list(range(images))
