from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from tiny_pipelines import BUILDERS, CALL_OPTIONS, aligned
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.config import (
    AdvantageSettings,
    LoraSettings,
    RewardSettings,
    SamplingConfig,
    TrainConfig,
    ValidationSettings,
)
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state, add_adapter, remove_adapter, save_adapter
from pamela_rl.diffusion.adherence import adherence
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError
from pamela_rl.storage import read_metrics
from pamela_rl.training.checkpoint import load_checkpoint
from pamela_rl.training.experience import BASE_ADHERENCE, BASE_SPREAD
from pamela_rl.training.loop import train
from pamela_rl.types import PromptBatch, RewardOutput, Trajectory

SAMPLING = SamplingConfig(num_inference_steps=10, eta=0.0, train_steps=1)
SUBJECTS = ["a boat", "a tree", "a house", "a cactus"]
CONFIG = TrainConfig(
    num_iterations=2,
    images_per_iteration=8,
    group_size=4,
    batch_size=8,
    checkpoint_every=1,
    sampling=SamplingConfig(num_inference_steps=5, train_steps=2),
    lora=LoraSettings(rank=2, alpha=2),
    reward=RewardSettings(adherence_weight=0.5),
    validation=ValidationSettings(every=0),
)
SOURCE = PromptSource(["a boat", "a tree"], "ada")


def put_on(policy: Policy, std: float = 0.3) -> None:
    for number, weight in enumerate(add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)):
        torch.nn.init.normal_(weight, std=std, generator=torch.Generator().manual_seed(number))


def drawn(policy: Policy, prompts: Sequence[str], sampling: SamplingConfig = SAMPLING) -> Trajectory:
    ids = torch.arange(len(prompts))
    return rollout(policy, PromptBatch(tuple(prompts), ("u",) * len(prompts), ids, ids), sampling, 0, 0, len(prompts))


def test_images_adhere_to_their_own_prompt_more_than_to_another_subjects(policy: Policy) -> None:
    own, other = SUBJECTS * 3, (SUBJECTS[1:] + SUBJECTS[:1]) * 3
    latents = drawn(policy, own).final_latents
    add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    mine, theirs = (adherence(policy, latents, prompts, SAMPLING, 12) for prompts in (own, other))
    assert float((mine > theirs).float().mean()) > 0.9
    assert float(mine.mean()) > 0 > float(theirs.mean())


def test_an_image_adheres_to_no_prompt_at_all_by_nothing(policy: Policy) -> None:
    latents = drawn(policy, ["a boat", "a tree"]).final_latents
    add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    assert adherence(policy, latents, ["", ""], SAMPLING, 2).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_it_is_the_difference_of_two_denoising_errors(policy: Policy) -> None:
    latents = drawn(policy, ["a boat", "a tree"]).final_latents
    schedule, expected = policy.schedule(10, 0.0), torch.zeros(2)
    add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)  # fresh: it changes nothing
    noises: list[Tensor] = []
    own = schedule.noised

    def noting(clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        noises.append(noise)
        return own(clean, noise, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(schedule), "noised", lambda self, *given: noting(*given))
        found = adherence(policy, latents, ["a boat", "a tree"], SAMPLING, 2)
    assert len(noises) == 3
    assert all(torch.equal(noise[0], noise[1]) for noise in noises)
    for place, noise in zip((1, 2, 3), noises, strict=True):  # of ten steps
        alpha, time = schedule.alpha_bar[place], schedule.timesteps[place].expand(2)  # type: ignore[attr-defined]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        for prompts, sign in ((["", ""], 1), (["a boat", "a tree"], -1)):
            velocity = policy.predict(noisy, time, policy.encode(prompts), None, 1.0)
            clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity
            expected += sign * (clean - latents).square().mean(dim=(1, 2, 3)) / 3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_adapter_has_no_say_in_it_and_is_on_again_afterwards(policy: Policy) -> None:
    latents = drawn(policy, SUBJECTS).final_latents
    add_adapter(policy, "fresh", LoraSettings(rank=2), seed=0)
    fresh = adherence(policy, latents, SUBJECTS, SAMPLING, 4)
    remove_adapter(policy, "fresh")
    put_on(policy)
    before = drawn(policy, SUBJECTS).final_latents
    assert float((before - latents).abs().mean()) > 0.1
    assert torch.equal(adherence(policy, latents, SUBJECTS, SAMPLING, 4), fresh)
    assert torch.equal(drawn(policy, SUBJECTS).final_latents, before)


def test_neither_the_size_of_calls_nor_who_is_beside_an_image_changes_it(policy: Policy) -> None:
    latents = drawn(policy, SUBJECTS).final_latents
    add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    whole = adherence(policy, latents, SUBJECTS, SAMPLING, 48)
    torch.testing.assert_close(adherence(policy, latents, SUBJECTS, SAMPLING, 3), whole, atol=1e-5, rtol=0)
    alone = adherence(policy, latents[2:3], SUBJECTS[2:3], SAMPLING, 48)
    torch.testing.assert_close(alone, whole[2:3], atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 4])
def test_chains_of_few_steps_have_an_adherence_too(policy: Policy, steps: int) -> None:
    latents = drawn(policy, SUBJECTS).final_latents
    add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    few = replace(SAMPLING, num_inference_steps=steps)
    own, other = (adherence(policy, latents, prompts, few, 4) for prompts in (SUBJECTS, SUBJECTS[::-1]))
    assert own.isfinite().all()
    assert steps == 1 or float(own.mean()) > float(other.mean())  # at the first level there is only noise to see


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_tell(family: str) -> None:
    policy = policy_for(aligned(BUILDERS[family]()), 32, 64)
    policy.encode_options = CALL_OPTIONS.get(family, {})  # type: ignore[attr-defined]
    policy.pipeline.set_progress_bar_config(disable=True)
    put_on(policy)
    prompts = ["a boat", "a lighthouse at dusk, from below"]
    latents = policy.encode_images(torch.rand(2, 3, 32, 64))
    found = adherence(policy, latents, prompts, SAMPLING, 2)
    assert found.shape == (2,)
    assert found.isfinite().all()
    assert found.abs().max() > 0


def test_what_images_lack_of_their_prompts_is_subtracted_and_recorded(
    policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    given: list[Tensor] = []

    def noting(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        output = darkness(images, prompts, user_ids)
        given.append(output.mean)
        return output

    name = train(policy, noting, SOURCE, CONFIG, DDPO(learning_rate=1e-2), tmp_path, accelerator)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    saved = load_checkpoint(tmp_path / "checkpoint")
    assert saved is not None
    batch = SOURCE.draw(0, 2, 4, CONFIG.seed)
    remove_adapter(policy, name)
    add_adapter(policy, "fresh", CONFIG.lora, 0)
    first = rollout(policy, batch, CONFIG.sampling, CONFIG.seed, 0, 8)
    base = adherence(policy, first.final_latents, batch.prompts, CONFIG.sampling, 8)
    assert float(base.mean()) > 0
    assert saved.scalars[BASE_ADHERENCE] == pytest.approx(float(base.mean()), rel=1e-5)
    assert saved.scalars[BASE_SPREAD] == pytest.approx(float(given[0].std(correction=0)), rel=1e-5)
    lacking = (1 - base / base.mean()).clamp(min=0)
    assert rows[0]["rollout/lacks_of_prompt_mean"] == pytest.approx(float(lacking.mean()), rel=1e-4)
    left = given[0].mean() - 0.5 * given[0].std(correction=0) * lacking.mean()
    assert rows[0]["rollout/reward_mean"] == pytest.approx(float(left), rel=1e-4)
    assert "rollout/lacks_of_prompt_mean" in rows[1]


def test_where_the_base_itself_does_not_heed_prompts_rewards_keep_their_size(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    train(small_policy, darkness, SOURCE, CONFIG, DDPO(), tmp_path, accelerator)  # too small for the world to draw well
    saved = load_checkpoint(tmp_path / "checkpoint")
    assert saved is not None
    assert saved.scalars[BASE_ADHERENCE] < 0
    for row in read_metrics(tmp_path / "metrics.jsonl"):
        assert row["rollout/lacks_of_prompt_mean"] < 5
        assert row["rollout/reward_mean"] > -2


def test_without_a_weight_nothing_is_measured(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    plain = replace(CONFIG, num_iterations=1, reward=RewardSettings())
    train(small_policy, darkness, SOURCE, plain, DDPO(), tmp_path, accelerator)
    assert "rollout/lacks_of_prompt_mean" not in read_metrics(tmp_path / "metrics.jsonl")[0]
    saved = load_checkpoint(tmp_path / "checkpoint")
    assert saved is not None
    assert saved.scalars == {}


@pytest.mark.slow
def test_a_run_that_goes_on_compares_with_the_same_base(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    states = []
    for folder, lengths in (("whole", [2]), ("parts", [1, 2])):
        for length in lengths:
            shorter = replace(CONFIG, num_iterations=length)
            name = train(
                small_policy, darkness, SOURCE, shorter, DDPO(learning_rate=1e-2), tmp_path / folder, accelerator
            )
            states.append(adapter_state(small_policy, name))
            remove_adapter(small_policy, name)
    whole, _, resumed = states
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_that_starts_from_an_adapter_compares_with_the_base_model_all_the_same(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    put_on(small_policy)
    start, scalars = save_adapter(small_policy, "ada", "ada", tmp_path, {}, {}), []
    remove_adapter(small_policy, "ada")
    once = replace(CONFIG, num_iterations=1, lora=LoraSettings(rank=2, alpha=8))
    for folder, begun in ((tmp_path / "fresh", None), (tmp_path / "begun", start)):
        name = train(small_policy, darkness, SOURCE, once, DDPO(), folder, accelerator, start=begun)
        remove_adapter(small_policy, name)
        saved = load_checkpoint(folder / "checkpoint")
        assert saved is not None
        scalars.append(saved.scalars)
    assert scalars[0] == scalars[1]
    means = [
        read_metrics(tmp_path / folder / "metrics.jsonl")[0]["rollout/reward_mean"] for folder in ("fresh", "begun")
    ]
    assert means[0] != means[1]


def test_draft_has_no_advantages_and_ignores_it(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    algorithm, once = DRaFT(num_steps=1, num_updates=1), replace(CONFIG, num_iterations=1)
    states = []
    for weight in (0.0, 5.0):
        config = replace(once, reward=RewardSettings(adherence_weight=weight))
        folder = tmp_path / str(weight)
        name = train(small_policy, darkness, SOURCE, config, algorithm, folder, accelerator)
        states.append(adapter_state(small_policy, name))
        remove_adapter(small_policy, name)
        assert "rollout/lacks_of_prompt_mean" not in read_metrics(folder / "metrics.jsonl")[0]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_parts_that_are_compared_by_themselves_leave_nothing_to_subtract_from() -> None:
    with pytest.raises(
        ConfigError, match=r"separate_parts compares parts by themselves, but reward.adherence_weight is 0"
    ):
        replace(CONFIG, advantages=AdvantageSettings(separate_parts=True))
    with pytest.raises(ConfigError, match=r"reward.adherence_weight is -1"):
        RewardSettings(adherence_weight=-1)
