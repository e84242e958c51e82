from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator

from pamela_rl.config import AdvantageSettings, RewardSettings, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.errors import ConfigError
from pamela_rl.training.processes import check_processes, local_advantages
from pamela_rl.types import RewardOutput

CONFIG = TrainConfig(images_per_iteration=4, group_size=2, reward=RewardSettings(std_weight=0.0))
BATCH = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
PARTS = {"loud": torch.tensor([0.0, 100.0, 0.0, 100.0]), "quiet": torch.tensor([0.2, 0.1, 0.1, 0.2])}
MIXED = RewardOutput(PARTS["loud"] + PARTS["quiet"], None, PARTS, {"loud": 1.0, "quiet": 1.0})


def test_advantages_are_cut_and_rewards_are_not(accelerator: Accelerator) -> None:
    config = replace(CONFIG, advantages=AdvantageSettings(clip=0.25))
    rewards, advantages = local_advantages(accelerator, MIXED, BATCH, BATCH, config)
    assert torch.equal(rewards, MIXED.mean)
    assert advantages.tolist() == [-0.25, 0.25, -0.25, 0.25]


def test_parts_that_are_compared_each_by_itself_can_cancel_out(accelerator: Accelerator) -> None:
    _, together = local_advantages(accelerator, MIXED, BATCH, BATCH, CONFIG)
    assert together.tolist() == pytest.approx([-1, 1, -1, 1], abs=1e-3)
    apart = replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    assert local_advantages(accelerator, MIXED, BATCH, BATCH, apart)[1].tolist() == pytest.approx(
        [0, 0, -2, 2], abs=1e-3
    )


def test_the_control_forgets_the_rewards(accelerator: Accelerator) -> None:
    config = replace(CONFIG, advantages=AdvantageSettings(zero=True))
    assert local_advantages(accelerator, MIXED, BATCH, BATCH, config)[1].tolist() == [0, 0, 0, 0]


def test_doubt_is_subtracted_before_pictures_are_compared(accelerator: Accelerator) -> None:
    config = replace(CONFIG, reward=RewardSettings(std_weight=2.0))
    doubtful = RewardOutput(torch.tensor([1.0, 2.0, 1.0, 2.0]), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    rewards, advantages = local_advantages(accelerator, doubtful, BATCH, BATCH, config)
    assert rewards.tolist() == [1, 0, 1, 2]
    assert advantages.tolist() == pytest.approx([1, -1, -1, 1], abs=1e-3)


def test_parts_are_asked_for_only_where_there_are_some_and_nothing_else_would_be_lost(accelerator: Accelerator) -> None:
    apart = replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    with pytest.raises(ConfigError, match="the reward has no parts; give a weighted reward"):
        local_advantages(accelerator, RewardOutput(torch.zeros(4)), BATCH, BATCH, apart)
    doubting = replace(apart, reward=RewardSettings(std_weight=0.5))
    with pytest.raises(ConfigError, match=r"reward.std_weight is 0.5, which is subtracted from their sum; set .* to 0"):
        local_advantages(accelerator, replace(MIXED, std=torch.ones(4)), BATCH, BATCH, doubting)


def test_a_picture_whose_sum_is_no_number_teaches_nothing_by_its_other_parts(accelerator: Accelerator) -> None:
    apart = replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    spoilt = {"loud": PARTS["loud"], "quiet": PARTS["quiet"].index_fill(0, torch.tensor(3), torch.nan)}
    output = RewardOutput(spoilt["loud"] + spoilt["quiet"], None, spoilt, {"loud": 1.0, "quiet": 1.0})
    assert local_advantages(accelerator, output, BATCH, BATCH, apart)[1][3] == 0


@pytest.mark.parametrize(
    ("processes", "settings", "sentence"),
    [
        (5, {}, r"images_per_iteration is 48 but there are 5 processes; use a multiple of 60, e\.g\. 60\.$"),
        (5, {"images_per_iteration": 300}, r"validation.num_images is 24 .* use a multiple of 10, e\.g\. 20 or 30\.$"),
        (9, {"group_size": 6}, r"use a multiple of 18, e\.g\. 36 or 54\.$"),
    ],
)
def test_the_numbers_suggested_for_some_processes_are_allowed(
    processes: int, settings: dict[str, Any], sentence: str
) -> None:
    several = cast(Accelerator, SimpleNamespace(num_processes=processes, mixed_precision="no"))
    with pytest.raises(ConfigError, match=sentence):
        check_processes(several, TrainConfig(**settings))
    check_processes(
        several, replace(TrainConfig(images_per_iteration=processes * 12), validation=ValidationSettings(every=0))
    )
