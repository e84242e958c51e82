"""Validation is on prompts that are not trained on, drawn as people will draw them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from small_taste_basis import small_taste_basis
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state, remove_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.diffusion.saved_adapters import drawn_with
from pamela_rl.errors import CheckpointError, ConfigError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import read_metrics
from pamela_rl.training.loop import train
from pamela_rl.training.personalize import personalize
from pamela_rl.training.plan import plan_run
from pamela_rl.training.validation import _NOISE
from pamela_rl.types import RewardOutput
from pamela_rl.world.run_settings import TrainSettings

TWELVE = [f"a boat number {number}" for number in range(12)]
HELD = {"a boat number 4", "a boat number 9"}
CONFIG = TrainConfig(
    num_iterations=2,
    images_per_iteration=8,
    group_size=2,
    batch_size=8,
    checkpoint_every=1,
    sampling=SamplingConfig(num_inference_steps=2, train_steps=1),
    lora=LoraSettings(rank=2, alpha=2),
    validation=ValidationSettings(every=2, num_images=4),
)


class Noting:
    """Likes dark images; notes what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[str, ...], Tensor]] = []

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        self.seen.append((tuple(prompts), images))
        return RewardOutput(-images.mean(dim=(1, 2, 3)))


def test_every_fifth_prompt_is_kept_apart_and_none_of_fewer_than_ten() -> None:
    settings = ValidationSettings()
    source = PromptSource([*TWELVE, TWELVE[4], TWELVE[0]], "ada").held_out(settings)  # duplicates go with their first
    assert set(source.validation) == set(source.watched) == HELD
    assert list(source.prompts) == [prompt for prompt in [*TWELVE, TWELVE[0]] if prompt not in HELD]
    assert source.told() == "on 2 prompts that are not trained on"
    again = source.held_out(settings)
    assert (again.prompts, again.validation) == (source.prompts, source.validation)
    few = PromptSource(TWELVE[:9], "ada").held_out(settings)
    assert few.watched == few.prompts == tuple(TWELVE[:9])
    assert few.told() == "on the training's own 9 prompts: none are kept apart"
    assert PromptSource(TWELVE, "ada").held_out(settings, split=False).prompts == tuple(TWELVE)
    assert PromptSource(TWELVE, "ada").held_out(ValidationSettings(every=0)).prompts == tuple(TWELVE)


def test_a_file_of_prompts_is_validated_on_and_must_be_apart(encoder: FeatureEncoder, tmp_path: Path) -> None:
    file, trained = tmp_path / "validation.txt", tmp_path / "prompts.txt"
    file.write_text("a cup\na tree\n", encoding="utf-8")
    trained.write_text("\n".join(TWELVE), encoding="utf-8")
    source = PromptSource(TWELVE, "ada").held_out(ValidationSettings(prompts=file))
    assert (source.prompts, source.watched) == (tuple(TWELVE), ("a cup", "a tree"))
    file.write_text("a cup\na boat number 3\n", encoding="utf-8")
    overlapping = replace(CONFIG, validation=ValidationSettings(prompts=file))
    with pytest.raises(ConfigError, match=r"1 of the prompts in validation.prompts.*e.g. 'a boat number 3'"):
        PromptSource(TWELVE, "ada").held_out(overlapping.validation)
    PersonalReward(encoder, small_taste_basis()).save(tmp_path / "reward")
    with pytest.raises(ConfigError, match="are trained on"):  # before any model is loaded
        TrainSettings(reward=tmp_path / "reward", prompts=trained, train=overlapping)
    with pytest.raises(ConfigError, match=r"validation.prompts is .* but validation.every is 0"):
        ValidationSettings(every=0, prompts=file)


def test_validation_is_drawn_as_the_stock_pipeline_draws_and_training_never_sees_its_prompts(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    told = SamplingConfig(num_inference_steps=2, train_steps=1, guidance_scale=2.0, negative_prompt="at night")
    used = ValidationSettings(every=2, num_images=4, num_inference_steps=5, guidance_scale=4.0)
    config, reward = replace(CONFIG, sampling=told, validation=used), Noting()
    train(small_policy, reward, PromptSource(TWELVE, "ada"), config, DDPO(), tmp_path, accelerator)
    remove_adapter(small_policy, "ada")
    (prompts, images), *trained, (last, _) = reward.seen
    assert prompts == last == ("a boat number 4",) * 2 + ("a boat number 9",) * 2
    assert not HELD & {prompt for batch, _ in trained for prompt in batch}
    start = small_policy.initial_latents([generator_for(config.seed, _NOISE, row) for row in range(4)])
    stock = small_policy.pipeline(
        list(prompts), latents=start, num_inference_steps=5, guidance_scale=4.0, negative_prompt=["at night"] * 4,
        output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close(images, stock, atol=2e-5, rtol=0)


def test_a_run_with_prompts_kept_apart_resumes_to_the_bit_and_knows_its_file_by_what_is_in_it(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    file, moved = tmp_path / "validation.txt", tmp_path / "moved.txt"
    for path in (file, moved):
        path.write_text("a cup\na tree\n", encoding="utf-8")

    def trained(folder: str, num_iterations: int, prompts: Path | None) -> dict[str, Tensor]:
        config = replace(CONFIG, num_iterations=num_iterations, validation=replace(CONFIG.validation, prompts=prompts))
        name = train(
            small_policy, Noting(), PromptSource(TWELVE, "ada"), config, DDPO(), tmp_path / folder, accelerator
        )
        state = adapter_state(small_policy, name)
        remove_adapter(small_policy, name)
        return state

    for kind, paths in (("split", (None, None)), ("file", (file, moved))):
        trained(f"{kind}-stopped", 1, paths[0])
        resumed, whole = trained(f"{kind}-stopped", 2, paths[1]), trained(kind, 2, paths[0])
        assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    moved.write_text("a cup\na house\n", encoding="utf-8")
    trained("file-stopped", 2, moved)  # other prompts to validate on do not change what is learned, …
    patient = replace(CONFIG, validation=replace(CONFIG.validation, patience=1, prompts=file))
    arguments = (DDPO(), tmp_path / "patient", accelerator, {"judge": Noting()})
    train(small_policy, Noting(), PromptSource(TWELVE, "ada"), patient, *arguments)
    remove_adapter(small_policy, "ada")
    changed = replace(patient, validation=replace(patient.validation, prompts=moved))
    with pytest.raises(CheckpointError, match=r"holds a run with other settings .*validation.prompts: there"):
        train(small_policy, Noting(), PromptSource(TWELVE, "ada"), changed, *arguments)  # … but which iteration is kept


def test_the_plan_says_what_validation_is_on(small_policy: Policy) -> None:
    config, source = CONFIG.used_in(7), PromptSource(TWELVE, "ada").held_out(CONFIG.validation)
    text = plan_run(small_policy, config, DDPO(), 1, prompts=source).text()
    assert "validation: 2 times 4 images, 7 steps, guidance 1, on 2 prompts that are not trained on" in text


def test_an_adapter_says_how_it_is_drawn_and_its_samples_and_validation_are_drawn_so(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    told = SamplingConfig(num_inference_steps=2, train_steps=1, guidance_scale=2.0, negative_prompt="at night")
    source, samples = PromptSource(TWELVE, "ada"), []
    for negative in ("at night", "a tree"):
        config = replace(CONFIG, sampling=replace(told, negative_prompt=negative), num_iterations=1)
        folder = personalize(
            small_policy,
            Noting(),
            source,
            config,
            DDPO(learning_rate=1e-9),
            tmp_path / negative,
            accelerator,
            None,
            None,
            3,
        )
        samples.append((folder / "samples.png").read_bytes())
    assert samples[0] != samples[1]
    assert drawn_with(folder) == {
        "num_inference_steps": 3, "guidance_scale": 2.0, "negative_prompt": "a tree", "height": 32, "width": 32,
    }  # fmt: skip
    run = json.loads((tmp_path / "a tree" / "users" / "ada" / "run.json").read_text())
    assert run["validation.num_inference_steps"] == 3


def test_images_of_a_single_step_are_validated_and_their_distance_measured(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    used = ValidationSettings(every=2, num_images=4, num_inference_steps=1)
    train(
        small_policy, Noting(), PromptSource(TWELVE, "ada"), replace(CONFIG, validation=used), DDPO(learning_rate=1e-2),
        tmp_path, accelerator,
    )  # fmt: skip
    first, last = read_metrics(tmp_path / "validation.jsonl")
    assert first["eval/kl_to_reference"] == 0 < last["eval/kl_to_reference"]
