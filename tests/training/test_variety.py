"""Images of one prompt that are alike lose reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import (
    AdvantageSettings,
    LoraSettings,
    RewardSettings,
    SamplingConfig,
    TrainConfig,
    ValidationSettings,
)
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import remove_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.distances import distances_to_others
from pamela_rl.storage import read_metrics
from pamela_rl.training.checkpoint import load_checkpoint
from pamela_rl.training.experience import BASE_DISTANCE, BASE_SPREAD
from pamela_rl.training.loop import train
from pamela_rl.types import RewardOutput

CONFIG = TrainConfig(
    num_iterations=2,
    images_per_iteration=8,
    group_size=4,
    batch_size=8,
    checkpoint_every=1,
    sampling=SamplingConfig(num_inference_steps=5, train_steps=2),
    lora=LoraSettings(rank=2, alpha=2),
    reward=RewardSettings(diversity_weight=2.0),
    validation=ValidationSettings(every=0),
)
SOURCE = PromptSource(["a boat", "a tree"], "ada")


def indifferent(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    return RewardOutput(torch.zeros(len(images)))


def test_what_images_lack_of_the_base_models_variety_is_subtracted_and_recorded(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    given: list[Tensor] = []

    def noting(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        output = darkness(images, prompts, user_ids)
        given.append(output.mean)
        return output

    remove_adapter(small_policy, train(small_policy, noting, SOURCE, CONFIG, DDPO(), tmp_path, accelerator))
    batch = SOURCE.draw(0, 2, 4, CONFIG.seed)
    drawn = rollout(small_policy, batch, CONFIG.sampling, CONFIG.seed, 0, 8)
    distances = distances_to_others(drawn.final_latents, batch.group_ids)
    saved, row = load_checkpoint(tmp_path / "checkpoint"), read_metrics(tmp_path / "metrics.jsonl")[0]
    assert saved is not None
    assert saved.scalars[BASE_DISTANCE] == pytest.approx(float(distances.mean()), rel=1e-5)
    assert saved.scalars[BASE_SPREAD] == pytest.approx(float(given[0].std(correction=0)), rel=1e-5)
    assert row["rollout/lacks_of_variety_mean"] == pytest.approx(0.0, abs=1e-6)  # the base lacks nothing of its own
    lost = 2.0 * given[0].std(correction=0) * (1 - distances / distances.mean())
    assert row["rollout/reward_std"] == pytest.approx(float((given[0] - lost).std(correction=0)), rel=1e-4)


def test_images_that_would_become_alike_stay_apart(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    algorithm = NFT(learning_rate=4e-3, advantage_scale=2.0, num_updates=2, kl_weight=0.3)
    longer = replace(CONFIG, num_iterations=5, images_per_iteration=16, group_size=8, batch_size=16)
    lacks = []
    for weight in (1e-6, 8.0):
        config = replace(longer, reward=RewardSettings(diversity_weight=weight))
        folder = tmp_path / str(weight)
        remove_adapter(small_policy, train(small_policy, darkness, SOURCE, config, algorithm, folder, accelerator))
        lacks.append(read_metrics(folder / "metrics.jsonl")[-1]["rollout/lacks_of_variety_mean"])
    assert lacks[0] > 0.3
    assert lacks[1] < lacks[0] - 0.3


def test_without_a_weight_nothing_is_measured(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    plain = replace(CONFIG, num_iterations=1, reward=RewardSettings())
    train(small_policy, indifferent, SOURCE, plain, DDPO(), tmp_path, accelerator)
    assert "rollout/lacks_of_variety_mean" not in read_metrics(tmp_path / "metrics.jsonl")[0]


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"but reward\.diversity_weight is 2\.0, which is subtracted from their sum"):
        replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    with pytest.raises(ConfigError, match=r"reward\.diversity_weight is -1"):
        RewardSettings(diversity_weight=-1)


def test_the_distance_to_others_is_by_hand_and_zero_for_one_alone() -> None:
    samples = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [7.0, 7.0]])
    found = distances_to_others(samples, torch.tensor([5, 5, 5, 9]))
    far = (3.0**2 + 3.0**2) ** 0.5
    expected = torch.tensor([(5 + 1) / 2, (5 + far) / 2, (1 + far) / 2, 0.0]) / 2**0.5
    torch.testing.assert_close(found, expected)


def test_an_image_that_is_not_finite_decides_nothing_for_the_others() -> None:
    samples = torch.tensor([[0.0, 0.0], [3.0, 4.0], [float("nan"), 1.0]])
    found = distances_to_others(samples, torch.zeros(3))
    torch.testing.assert_close(found[:2], torch.full((2,), 5 / 2**0.5))
    assert found[2].isnan()
