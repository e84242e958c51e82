from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from learning import learn

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.ddpo_sf import DDPOSF
from pamela_rl.algorithms.dpo import DPO
from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.algorithms.grpo import GRPO
from pamela_rl.algorithms.learner import AdapterCopy
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import adapter_state, add_adapter
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.memory import PeakMemory
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.training import memory_plan
from pamela_rl.training.memory_plan import fitting_batches, module_bytes, plan_memory
from pamela_rl.training.plan import calls_of_updates, people_together, plan_run

ALGORITHM = DDPO(num_updates=3, num_inner_epochs=2)
CONFIG = TrainConfig(
    num_iterations=20,
    images_per_iteration=12,
    group_size=4,
    batch_size=8,
    sampling=SamplingConfig(num_inference_steps=4, train_steps=3, guidance_scale=2.0),
    validation=ValidationSettings(every=5, num_images=6, patience=2),
)


ALGORITHMS = [
    *(DDPO(num_inner_epochs=2, kl_weight=kl, num_updates=updates) for kl in (0.1, 0.0) for updates in (1, 3)),
    *(NFT(kl_weight=kl, num_updates=3) for kl in (0.1, 0.0)),
    *(DRaFT(num_steps=2, kl_weight=kl, num_updates=2) for kl in (0.1, 0.0)),
]
RARELY_BROKEN = {(DDPO, 1, 0.1), (DDPO, 1, 0.0), (DDPO, 3, 0.0), (NFT, 3, 0.0), (DRaFT, 2, 0.0)}
PLANNED = [
    pytest.param(a, marks=pytest.mark.slow) if (type(a), a.num_updates, a.kl_weight) in RARELY_BROKEN else a
    for a in ALGORITHMS
]


@pytest.mark.parametrize("algorithm", PLANNED, ids=lambda a: f"{a.name}, {a.num_updates} updates, KL {a.kl_weight}")
def test_the_denoiser_is_called_as_often_as_planned(
    policy: StableDiffusionPolicy, accelerator: Accelerator, algorithm: Algorithm
) -> None:
    config = CONFIG
    plan = plan_run(policy, config, algorithm, num_processes=1)
    weights = add_adapter(policy, "ada", config.lora, 0)
    calls: list[tuple[bool, int]] = []
    own = policy.denoiser.forward

    def counting(latents: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        calls.append((torch.is_grad_enabled(), len(latents)))
        return own(latents, *arguments, **options)

    policy.denoiser.forward = counting
    batch = PromptSource(["a boat", "a tree", "a house"], "ada").draw(0, 3, 4, 0)
    drawn = rollout(policy, batch, config.sampling, 0, 0, config.batch_size, algorithm.kept_steps)
    assert len(calls) == plan.sampling_calls
    optimizer = torch.optim.SGD(weights, lr=0.0)
    learn(algorithm, accelerator, policy, optimizer, drawn, torch.randn(12), config, AdapterCopy(policy.adapter))
    assert sum(learning for learning, _ in calls) == plan.training_calls
    assert len(calls) - plan.sampling_calls - plan.training_calls == plan.reference_calls
    assert {rows for _, rows in calls} == {plan.rows_per_call} == {16}


@pytest.mark.parametrize("num_processes", [2, 4])
@pytest.mark.parametrize("batch_size", [4, 8, 48])
@pytest.mark.parametrize(
    "algorithm", [DDPO(), DDPOSF(), GRPO(), NFT(), DRaFT(), DRaFT(num_updates=2), NFT(num_updates=2)],
    ids=lambda a: f"{a.name}, {a.num_updates}",
)  # fmt: skip
def test_an_update_has_as_many_calls_on_every_process(
    algorithm: Algorithm, batch_size: int, num_processes: int
) -> None:
    calls = calls_of_updates(TrainConfig(batch_size=batch_size), algorithm, num_processes)
    assert all(max(update) - min(update) <= 1 for update in zip(*calls, strict=True))


def test_memory_and_disk_are_what_the_parts_weigh(policy: StableDiffusionPolicy) -> None:
    plan = plan_run(policy, CONFIG, ALGORITHM, num_processes=2)
    add_adapter(policy, "ada", CONFIG.lora, 0)
    weights = sum(tensor.numel() for tensor in adapter_state(policy, "ada").values())
    assert plan.memory.adapter == weights * 36  # gradient, its fp64 sum; weight and two moments, twice
    assert plan.checkpoint_bytes == weights * 12
    images = 6 * 3 * 64 * 64 * 4
    assert (
        plan.memory.trajectory == images + 6 * (3 * 2 + 1) * 8 * 8 * 8 * 4
    )  # images x (before and after, final) x bytes
    noise = plan_run(policy, CONFIG, NFT(num_updates=3), num_processes=2).memory
    assert noise.trajectory == images + 6 * (3 * 4 + 1 + 1) * 8 * 8 * 8 * 4  # noise, noised, old, base
    assert noise.adapter == weights * 44
    assert plan.memory.working is not None
    assert plan.memory.total > plan.memory.base > 10e6


def test_the_plan_reads_as_a_person_would_say_it(policy: StableDiffusionPolicy) -> None:
    text = plan_run(policy, CONFIG, ALGORITHM, num_processes=2).text()
    assert "20 iterations of 12 images = 3 prompts x 4, 6 on each of 2 processes: 240 images" in text
    assert "6 updates of 12 (image, step) pairs; denoiser calls of 12 rows: 4 to sample, 6 to train" in text
    assert "validation: 5 times 6 images, 4 steps, guidance 2; 2 without gain stop the run" in text
    assert "checkpoints: every 5 iterations, " in text
    assert "memory: about " in text


def test_a_gradient_through_the_decoder_takes_more(policy: StableDiffusionPolicy) -> None:
    plan = plan_run(policy, CONFIG, DRaFT(num_updates=1), num_processes=1)
    without = plan_run(policy, CONFIG, DDPO(), num_processes=1)
    assert plan.memory.working is not None
    assert without.memory.working is not None
    memory, latents = PeakMemory(), torch.randn(8, 8, 8, 8, requires_grad=True)
    memory.ignore(policy.pipeline.vae.parameters())
    with memory:
        images = policy.decode(latents)
        kept = memory.live
        images.sum().backward()
    assert "what the reward keeps for its gradient" in plan.text()
    assert "what the reward keeps" not in without.text()
    assert plan.memory.working > without.memory.working + 0.8 * kept


def test_the_plan_counts_rewards_and_what_is_offloaded(
    policy: StableDiffusionPolicy, world_reward: PersonalReward
) -> None:
    plain = plan_run(policy, CONFIG, DDPO(), 1, [world_reward]).memory
    encoder = sum(weight.numel() * weight.element_size() for weight in world_reward.encoder.model.parameters())
    assert plain.scorers == pytest.approx(encoder, rel=0.2)
    parts = policy.pipeline
    moved = module_bytes([parts.text_encoder, parts.vae])
    policy.offload = True
    thrifty = plan_run(policy, CONFIG, DDPO(), 1, [world_reward]).memory
    assert plain.base - thrifty.base == moved
    assert thrifty.total < plain.total


def test_as_many_people_train_together_as_fit_and_nobody_is_left_over(
    policy: StableDiffusionPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, cpu = plan_run(policy, CONFIG, ALGORITHM, num_processes=1), torch.device("cpu")
    assert people_together(1, 50, plan, cpu) == 1
    assert people_together(16, 50, plan, cpu) == 13  # four rounds of at most 13, not three of 16 and one of 2
    assert people_together(16, 5, plan, cpu) == 5
    each = plan.memory.adapter + plan.memory.trajectory + (plan.memory.working or 0)
    assert plan.for_people(3).memory.total == plan.memory.total + 2 * each
    assert plan.for_people(3).rows_per_call == 3 * plan.rows_per_call
    assert "3 people at a time" in plan.for_people(3).text()
    monkeypatch.setattr(
        "pamela_rl.training.plan._free_bytes", lambda device: int((plan.memory.total + 4.5 * each) / 0.8)
    )
    assert people_together("auto", 50, plan, cpu) == 5
    monkeypatch.setattr("pamela_rl.training.plan._free_bytes", lambda device: 0)
    assert people_together("auto", 50, plan, cpu) == 1
    monkeypatch.setattr("pamela_rl.training.plan._free_bytes", lambda device: 10**15)
    assert people_together("auto", 1000, plan, cpu) == 63  # sixteen rounds, each of at most 64


@pytest.mark.parametrize(
    ("algorithm", "trained", "sampled"),
    [(DDPO(num_updates=1), 4, 12), (DDPO(num_updates=2), 4, 4), (NFT(), 4, 12), (DPO(), 4, 4)],
    ids=lambda value: getattr(value, "name", value),
)
def test_calls_are_the_largest_that_memory_holds_and_sampling_grows_where_that_is_free(
    policy: StableDiffusionPolicy, algorithm: Algorithm, trained: int, sampled: int
) -> None:
    def memory_of(training: int, sampling: int) -> int:
        sizes = replace(CONFIG, batch_size=training, sampling_batch_size=sampling)
        return plan_memory(policy, sizes, algorithm, 12, []).total

    total = memory_of(4, 4) * 7 // 6 + 7
    assert (
        memory_of(6, 6) > total * 6 // 7 >= memory_of(4, sampled)
    )  # a call that keeps nothing takes less than one that learns
    found = fitting_batches(policy, CONFIG, algorithm, 1, [], total)
    assert (found.batch_size, found.sampled_at_once) == (trained, sampled)
    assert fitting_batches(policy, CONFIG, algorithm, 1, [], 10 * total).batch_size == 12
    assert fitting_batches(policy, CONFIG, algorithm, 1, [], 0).batch_size == (2 if algorithm.name == "dpo" else 1)
    policy.sharded = True
    with pytest.raises(
        ConfigError, match=r"how much memory a call of this model takes is not known.*set train.batch_size"
    ):
        fitting_batches(policy, CONFIG, algorithm, 1, [], total)


@pytest.mark.parametrize(
    ("algorithm", "beside"),
    [
        (DDPO(), True),
        (DDPO(kl_weight=0.1), False),
        (NFT(kl_weight=0.0), True),
        (DRaFT(kl_weight=0.1), True),
        (DPO(), False),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_base_model_counts_beside_an_update_where_it_is_asked_there(
    policy: StableDiffusionPolicy, algorithm: Algorithm, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(memory_plan, "update_bytes", lambda *inputs: (seen.append(inputs[-1]), 1)[1])
    plan_memory(policy, CONFIG, algorithm, 12, [])
    assert seen == [beside]
