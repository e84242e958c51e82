"""Many people on one base model: each as if alone, whoever else is there and however often it is killed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from filelock import FileLock
from rated_examples import dark_and_bright
from safetensors.torch import load_file
from tiny_pipelines import BUILDERS, aligned
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.ddpo_sf import DDPOSF
from pamela_rl.algorithms.dpo import DPO
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.algorithms.grpo import GRPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.sft import SFT
from pamela_rl.config import EMASettings, LoraSettings, RewardSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.company import Company, Seat
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.saved_adapters import adapter_digest, restore_version, version_numbers
from pamela_rl.errors import AdapterError, ConfigError, Interrupted, TrainingError
from pamela_rl.storage import read_metrics
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.loop import train
from pamela_rl.training.outcomes import outcome_table
from pamela_rl.training.people import People, personalize_users
from pamela_rl.training.personalize import Provenance
from pamela_rl.training.slots import people_at_a_time, slots_of
from pamela_rl.types import RewardOutput

USERS = ["ada", "ben", "cleo", "dan", "eve"]
CONFIG = TrainConfig(
    num_iterations=2,
    images_per_iteration=4,
    group_size=2,
    batch_size=2,
    checkpoint_every=1,
    sampling=SamplingConfig(num_inference_steps=3, train_steps=2, guidance_scale=2.0),
    lora=LoraSettings(rank=2, alpha=2),
    validation=ValidationSettings(every=0, num_images=4),
)
MADE_OF = Provenance("world", "light")


def light(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """Every second person likes bright images, the others dark ones, each by their own measure."""
    sides = torch.tensor([(-1.0) ** USERS.index(user) / (1 + USERS.index(user)) for user in user_ids])
    return RewardOutput(sides * images.mean(dim=(1, 2, 3)))


def people(policy: Policy, run: Path, users: Sequence[str] = USERS, **changes: Any) -> People:
    facts: dict[str, Any] = {
        "policy": policy, "reward": light, "prompts": ["a boat", "a tree"], "users": users, "config": CONFIG,
        "algorithm": NFT(learning_rate=1e-2), "run": run, "accelerator": Accelerator(cpu=True), "provenance": MADE_OF,
        "scorers": {}, "num_inference_steps": 1, "together": 3,
    }  # fmt: skip
    return People(**facts | changes)


def weights(run: Path, user: str) -> Tensor:
    state = load_file(str(run / "users" / user / "checkpoint" / "adapter.safetensors"))
    return torch.cat([state[name].flatten() for name in sorted(state)])


def likings() -> dict[str, RatedExamples]:
    """Everybody likes other ones of the same images."""
    ratings = [torch.rand(8, generator=torch.Generator().manual_seed(number)).double() for number in range(len(USERS))]
    return {u: RatedExamples.of(u, dark_and_bright(), ["a boat"] * 8, given) for u, given in zip(USERS, ratings)}


ALGORITHMS: list[Algorithm] = [
    DDPO(learning_rate=1e-2, kl_weight=0.1, kl_target=0.01), DDPOSF(num_updates=1, learning_rate=1e-2),
    GRPO(learning_rate=1e-2), NFT(learning_rate=1e-2), DRaFT(learning_rate=1e-2, num_steps=2),
    SFT(learning_rate=1e-2), DPO(learning_rate=1e-2),
]  # fmt: skip
RARELY_BROKEN = ("ddpo_sf", "grpo")  # which learn as ddpo does
LEARNERS = [pytest.param(a, marks=pytest.mark.slow) if a.name in RARELY_BROKEN else a for a in ALGORITHMS]


@pytest.mark.parametrize("model", ["unet", pytest.param("flow", marks=pytest.mark.slow)])
@pytest.mark.parametrize("algorithm", LEARNERS, ids=lambda algorithm: algorithm.name)
def test_in_company_everybody_learns_what_they_learn_alone(
    small_policy: Policy, algorithm: Algorithm, model: str, tmp_path: Path
) -> None:
    policy = small_policy
    if model == "flow":
        torch.manual_seed(0)
        policy = policy_for(aligned(BUILDERS["StableDiffusion3Pipeline"]()), 32, 32)
        policy.pipeline.set_progress_bar_config(disable=True)
    alone = trained(policy, algorithm, ["ada"], 1, tmp_path / "ada") | trained(
        policy, algorithm, ["ben"], 1, tmp_path / "ben"
    )
    company = trained(policy, algorithm, ["ada", "ben", "cleo"], 3, tmp_path / "company")
    for user, mine in alone.items():
        assert float((mine - company[user]).norm()) <= 1e-4 * float(mine.norm())
        records = [read_metrics(tmp_path / run / user / "metrics.jsonl") for run in (user, "company")]
        for row, other in zip(*records, strict=True):
            known = [name for name in row if not name.startswith(("time/", "memory/"))]
            assert [row[name] for name in known] == pytest.approx([other[name] for name in known], rel=1e-4, abs=1e-6)
    assert float((company["ada"] - company["ben"]).norm()) > 1e-3  # to each their own
    # in the same slot of calls of the same shape it is equal to the bit, whoever else is there
    assert torch.equal(trained(policy, algorithm, ["dan", "ben"], 3, tmp_path / "other")["ben"], company["ben"])


def trained(
    policy: Policy,
    algorithm: Algorithm,
    users: Sequence[str],
    slots: int,
    run: Path,
    lengths: Mapping[str, int] | None = None,
    validation: ValidationSettings = CONFIG.validation,
) -> dict[str, Tensor]:
    """Train users in a company of so many slots, from the first slot on; their adapters' weights."""
    varied, averaged = RewardSettings(diversity_weight=1.0), EMASettings(decay=0.5)
    config = replace(CONFIG, num_iterations=3, ema=averaged, reward=varied, validation=validation)
    samples, waiting, found = algorithm.learns_from == "rollouts", list(users), {}

    def next_work(seat: Seat) -> Callable[[], None] | None:
        return partial(work, seat, waiting.pop(0)) if waiting else None

    def work(seat: Seat, user: str) -> None:
        seated, source = policy.seated(seat), PromptSource(["a boat", "a tree"], user)
        examples = None if samples else likings()[user]
        mine = replace(config, num_iterations=(lengths or {}).get(user, config.num_iterations))
        name = train(
            seated, light if samples else None, source, mine, algorithm, run / user, Accelerator(cpu=True), examples=examples
        )  # fmt: skip
        found[user] = seated.adapters[name].weights.detach().clone()

    Company(slots).run(next_work, lambda: None)
    return found


@pytest.mark.slow
def test_in_company_the_denoiser_is_called_as_often_as_for_one(small_policy: Policy, tmp_path: Path) -> None:
    own, calls, once = small_policy.denoise, [], ValidationSettings(every=100, num_images=2)

    def counting(latents: Tensor, *arguments: Any) -> Tensor:
        calls.append(len(latents))
        return own(latents, *arguments)

    small_policy.denoise = counting  # type: ignore[method-assign]
    trained(small_policy, NFT(), ["ada"], 1, tmp_path / "one")
    alone, calls[:] = list(calls), []
    trained(small_policy, NFT(), USERS[:3], 3, tmp_path / "three")
    together, calls[:] = list(calls), []
    assert together == [3 * rows for rows in alone]
    trained(small_policy, NFT(), ["ada"], 1, tmp_path / "validated", validation=once)
    validation, calls[:] = len(calls) - len(alone), []
    # who enters later is validated while the others wait, and begins an iteration with them, so that calls are shared again
    trained(small_policy, NFT(), USERS, 3, tmp_path / "five", {"ada": 1}, once)
    assert len(calls) == 2 * len(alone) + 3 * validation  # six iterations: eve's three begin with dan's last


def test_one_who_fails_is_told_and_the_others_get_their_adapters(small_policy: Policy, tmp_path: Path) -> None:
    def broken(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        return RewardOutput(light(images, prompts, user_ids).mean * (float("nan") if "ben" in user_ids else 1.0))

    with pytest.raises(TrainingError, match=r"1 of 5 people got no adapter \(ben: 100% of this iteration's rewards"):
        personalize_users(people(small_policy, tmp_path, reward=broken))
    table = pd.read_parquet(tmp_path / "users.parquet").set_index("user")
    assert dict(table["status"]) == {user: "failed" if user == "ben" else "published" for user in USERS}
    assert table.loc["ada", "iterations"] == 2
    assert table.loc["ada", "images"] == 8
    assert "rewards are not finite" in table.loc["ben", "ended"]
    assert sorted(path.name for path in (tmp_path / "adapters").iterdir()) == [u for u in USERS if u != "ben"]


def test_alone_a_failure_is_ones_own(small_policy: Policy, tmp_path: Path) -> None:
    def broken(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        raise ConfigError("this reward is broken.")

    with pytest.raises(ConfigError, match="this reward is broken"):
        personalize_users(people(small_policy, tmp_path, ["ada"], reward=broken))


def test_the_judge_stops_one_and_the_next_takes_the_slot(small_policy: Policy, tmp_path: Path) -> None:
    def judge(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        falling = -1.0 if "ada" in user_ids else 1.0
        judged[user_ids[0]] = judged.get(user_ids[0], 0) + falling
        return RewardOutput(torch.full((len(images),), judged[user_ids[0]]))

    judged: dict[str, float] = {}
    validation = ValidationSettings(every=1, num_images=4, patience=1)
    config, users = replace(CONFIG, num_iterations=2, validation=validation), USERS[:3]
    asked = people(small_policy, tmp_path, users, config=config, scorers={"judge": judge}, together=2)
    outcomes = personalize_users(asked)
    found = {outcome.user: (outcome.iterations, outcome.ended) for outcome in outcomes}
    assert found["ada"] == (1, "the judge")
    assert all(found[user] == (2, "as planned") for user in users[1:])
    assert [outcome.gain for outcome in outcomes] == [-2.0, 4.0, 4.0]  # also watched in training
    text = outcome_table(outcomes)
    assert "the judge" in text
    assert "3 of 3 people have an adapter" in text


def test_killed_twice_on_the_way_the_same_command_finishes_what_is_missing_to_the_bit(
    small_policy: Policy, tmp_path: Path
) -> None:
    config, users = replace(CONFIG, num_iterations=2), USERS[:4]
    personalize_users(people(small_policy, tmp_path / "whole", users, config=config, together=2))
    calls = 0

    def stopping(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return light(images, prompts, user_ids)

    for stop_at in (3, 4):  # noqa: B007  (used in the reward)
        calls = 0
        with pytest.raises(Interrupted, match=r"stopped by SIGTERM; \d iterations are saved in"):
            personalize_users(
                people(small_policy, tmp_path / "killed", users, config=config, reward=stopping, together=2)
            )
    done = [len(read_metrics(tmp_path / "killed" / "users" / user / "metrics.jsonl")) for user in users]
    assert done[0] == 2 > done[3]
    personalize_users(people(small_policy, tmp_path / "killed", users, config=config, together=2))
    assert all(torch.equal(weights(tmp_path / "whole", user), weights(tmp_path / "killed", user)) for user in users)


def test_only_those_whose_answers_changed_are_trained_again_and_what_was_is_kept(
    small_policy: Policy, tmp_path: Path
) -> None:
    before, asked = dict.fromkeys(USERS, "first"), set()

    def noting(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        asked.update(user_ids)
        return RewardOutput(light(images, prompts, user_ids).mean * factor)

    factor = 1.0
    personalize_users(people(small_policy, tmp_path, reward=noting, ratings=before))
    old = adapter_digest(tmp_path / "adapters" / "ben")
    asked.clear()
    personalize_users(people(small_policy, tmp_path, reward=noting, ratings=before))
    assert asked == set()  # all was done
    factor = -1.0
    personalize_users(people(small_policy, tmp_path, reward=noting, ratings=before | {"ben": "second"}))
    assert asked == {"ben"}
    new = adapter_digest(tmp_path / "adapters" / "ben")
    assert new != old
    assert version_numbers(tmp_path, "ben") == [1]
    assert adapter_digest(tmp_path / "versions" / "ben" / "1") == old
    assert not (tmp_path / "versions" / "ada").exists()
    restore_version(tmp_path, "ben")
    assert adapter_digest(tmp_path / "adapters" / "ben") == old
    restore_version(tmp_path, "ben", 2)
    assert adapter_digest(tmp_path / "adapters" / "ben") == new
    with pytest.raises(AdapterError, match=r"has no version 7 of the adapter of user 'ben'; it has: 1, 2"):
        restore_version(tmp_path, "ben", 7)


def test_a_slot_stays_with_its_person_whoever_is_asked_for_later(tmp_path: Path) -> None:
    assert people_at_a_time(tmp_path) is None
    assert slots_of(tmp_path, ["ada", "ben", "cleo"], 2) == {"ada": 0, "ben": 1, "cleo": 0}
    found = slots_of(tmp_path, ["zoe", "cleo", "ada"], 2)
    assert (found["zoe"], found["cleo"], found["ada"]) == (1, 0, 0)
    assert people_at_a_time(tmp_path) == 2
    assert slots_of(tmp_path, ["cleo", "ada", "ben"], 3) == {"cleo": 0, "ada": 1, "ben": 2}


def test_trackers_that_follow_one_run_are_refused_before_anything_is_trained(
    small_policy: Policy, tmp_path: Path
) -> None:
    accelerator = Accelerator(cpu=True, log_with="wandb")
    with pytest.raises(ConfigError, match="trackers has wandb, which follows one run a process, but 3 people"):
        personalize_users(people(small_policy, tmp_path, accelerator=accelerator))
    assert list(tmp_path.iterdir()) == []


def test_whom_another_process_has_is_left_to_it(small_policy: Policy, tmp_path: Path) -> None:
    folder = tmp_path / "users" / "ben"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        outcomes = personalize_users(people(small_policy, tmp_path, USERS[:3]))
    assert [outcome.status for outcome in outcomes] == ["published", "open", "published"]
    assert [outcome.status for outcome in personalize_users(people(small_policy, tmp_path, USERS[:3]))] == [
        "published"
    ] * 3
