"""Every algorithm learns a toy reward, and learns nothing without the reward's signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.ddpo_sf import DDPOSF
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.algorithms.grpo import GRPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.updates import adapted_weight
from pamela_rl.config import (
    AdvantageSettings,
    EMASettings,
    LoraSettings,
    SamplingConfig,
    TrainConfig,
    ValidationSettings,
)
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state, remove_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.storage import read_metrics
from pamela_rl.training.loop import train
from pamela_rl.types import RewardOutput

ALGORITHMS = [
    DDPO(learning_rate=1e-2),
    NFT(learning_rate=1e-2, num_updates=1),
    *(
        pytest.param(algorithm, marks=pytest.mark.slow)
        for algorithm in (
            DDPOSF(learning_rate=2e-2),
            GRPO(learning_rate=1e-2, window="sliding", window_every=2, guard=True, clip_range=0.1),
            DRaFT(learning_rate=2e-3, num_updates=1),
        )
    ),
]
CONFIG = TrainConfig(
    num_iterations=5,
    images_per_iteration=16,
    group_size=8,
    batch_size=16,
    checkpoint_every=10,
    sampling=SamplingConfig(num_inference_steps=5, train_steps=2, window_size=3),
    lora=LoraSettings(rank=4, alpha=4),
    validation=ValidationSettings(every=5, num_images=12),
)
PROMPTS = PromptSource(["a boat", "a tree", "a house"], "ada")


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.name)
def test_it_learns_and_not_without_the_signal(
    algorithm: Algorithm, small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    name = train(small_policy, darkness, PROMPTS, CONFIG, algorithm, tmp_path / "learns", accelerator)
    remove_adapter(small_policy, name)
    before, after = (row["eval/reward_mean"] for row in read_metrics(tmp_path / "learns" / "validation.jsonl"))
    assert after > before + 0.01
    control = replace(
        CONFIG, num_iterations=2, advantages=AdvantageSettings(zero=True), validation=ValidationSettings(every=0)
    )
    name = train(small_policy, darkness, PROMPTS, control, algorithm, tmp_path / "control", accelerator)
    state = adapter_state(small_policy, name)
    assert all(value.abs().max() == 0 for key, value in state.items() if "lora_B" in key)


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm", [NFT(), DDPO(learning_rate=4e-3, kl_weight=0.1, kl_target=1e-6)], ids=["nft", "ddpo with a target"]
)
def test_copies_and_weights_that_adapt_survive_an_interruption_bit_for_bit(
    algorithm: Algorithm, small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    config = replace(CONFIG, num_iterations=3, checkpoint_every=1, ema=EMASettings(decay=0.5))
    states = []
    for folder, lengths in (("whole", [3]), ("parts", [2, 3])):
        for length in lengths:
            shorter = replace(config, num_iterations=length)
            name = train(small_policy, darkness, PROMPTS, shorter, algorithm, tmp_path / folder, accelerator)
            state = adapter_state(small_policy, name)
            remove_adapter(small_policy, name)
        states.append(state)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    rows = read_metrics(tmp_path / "parts" / "metrics.jsonl")
    if algorithm.kl_target:
        assert [row["train/kl_weight"] for row in rows] == pytest.approx([0.1, 0.2, 0.4])


@pytest.mark.parametrize(
    ("weight", "distance", "then"),
    [
        (0.1, 0.0, 0.1),  # a fresh adapter: the weight stays where it began
        (0.1, 0.31, 0.2),
        (0.4, 0.25, 0.4),
        (0.4, 0.13, 0.2),
        (0.15, 0.01, 0.1),
        (8.0, 0.9, 10.0),
        (0.4, float("nan"), 0.4),
    ],
)
def test_the_weight_of_the_distance_holds_its_target(weight: float, distance: float, then: float) -> None:
    assert adapted_weight(DDPO(kl_weight=0.1, kl_target=0.2), weight, distance) == pytest.approx(then)


@dataclass(frozen=True)
class NeverFollowed(NFT):
    """DiffusionNFT whose old adapter stays as it began."""

    def old_decay(self, update_steps: int) -> float:
        return 1.0


@pytest.mark.slow
def test_pictures_are_drawn_by_the_old_adapter_not_by_the_one_that_learns(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    drawn: dict[str, list[torch.Tensor]] = {"learning": [], "still": []}
    settings = {"learning": NeverFollowed(learning_rate=4e-3), "still": NFT(kl_weight=0.0)}
    for kind, algorithm in settings.items():

        def seen(
            images: torch.Tensor, prompts: Sequence[str], user_ids: Sequence[str], kind: str = kind
        ) -> RewardOutput:
            drawn[kind].append(images)
            return darkness(images, prompts, user_ids)

        short = replace(
            CONFIG,
            num_iterations=2,
            validation=ValidationSettings(every=0),
            advantages=AdvantageSettings(zero=kind == "still"),
        )
        name = train(small_policy, seen, PROMPTS, short, algorithm, tmp_path / kind, accelerator)
        moved = any(w.any() for key, w in adapter_state(small_policy, name).items() if "lora_B" in key)
        remove_adapter(small_policy, name)
        assert moved == (kind == "learning")
    assert all(map(torch.equal, drawn["learning"], drawn["still"]))


@pytest.mark.slow
def test_what_is_published_is_the_average(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    short = replace(CONFIG, num_iterations=2, validation=ValidationSettings(every=0))
    states = {}
    for decay in (0.0, 0.1):
        averaged = replace(short, ema=EMASettings(decay))
        folder = tmp_path / str(decay)
        for length in (1, 2):
            name = train(
                small_policy,
                darkness,
                PROMPTS,
                replace(averaged, num_iterations=length),
                DDPO(learning_rate=4e-3),
                folder,
                accelerator,
            )
            states[decay, length] = adapter_state(small_policy, name)
            remove_adapter(small_policy, name)
    for key, last in states[0.0, 2].items():  # the first average is all of the first iteration but a tenth of the start
        torch.testing.assert_close(states[0.1, 2][key], 0.9 * last + 0.1 * states[0.1, 1][key], atol=1e-7, rtol=1e-5)
