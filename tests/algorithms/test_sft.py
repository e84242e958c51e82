from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness, learn
from rated_examples import prompts_of, rated, recalled

from pamela_rl.algorithms.forward_process import levels_and_noise
from pamela_rl.algorithms.sft import SFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.diffusion.adapters import adapter_state, add_adapter, remove_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import ConfigError
from pamela_rl.storage import read_metrics
from pamela_rl.training.loop import train

CONFIG = TrainConfig(
    num_iterations=6,
    images_per_iteration=8,
    group_size=2,
    batch_size=8,
    checkpoint_every=10,
    sampling=SamplingConfig(5, train_steps=3),
    lora=LoraSettings(rank=4, alpha=4),
    validation=ValidationSettings(every=6, num_images=8),
)
ONE = SFT(sharpness=2.0, max_grad_norm=1e9)


def test_the_gradient_is_that_of_the_weighted_diffusion_loss(small_policy: Policy, accelerator: Accelerator) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=2), seed=0)
    for number, weight in enumerate(weights):
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
    trajectory, advantages = recalled(small_policy, "images", CONFIG)
    assert advantages.abs().tolist() == [1.0] * 8  # five or one: a standard deviation from the mean
    seen: list[torch.Tensor] = []
    optimizer = torch.optim.SGD(weights, lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.extend(w.grad.clone() for w in weights if w.grad is not None))
    stats = learn(ONE, accelerator, small_policy, optimizer, trajectory, advantages, CONFIG)

    schedule, x0 = small_policy.schedule(5, 0.0), trajectory.final_latents
    levels, noise = levels_and_noise(x0, trajectory.image_ids, 5, 3, CONFIG.seed, 0)
    told, loss = trajectory.conditioning[trajectory.prompt_index], torch.zeros(())
    share = 1 / (1 + torch.exp(-2.0 * advantages))
    for slot in range(3):
        alpha = schedule.alpha_bar[levels[:, slot]].view(-1, 1, 1, 1)  # type: ignore[attr-defined]
        xt = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise[:, slot]
        target = alpha.sqrt() * noise[:, slot] - (1 - alpha).sqrt() * x0  # the world predicts velocities
        output = small_policy.predict(xt, schedule.timesteps[levels[:, slot]], told, None, 1.0)
        loss = loss + (share * (output - target).square().mean(dim=(1, 2, 3))).sum() / 24
    for mine, theirs in zip(seen, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
    assert stats["train/loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_the_sharper_it_is_the_less_an_image_counts_that_was_disliked(
    small_policy: Policy, accelerator: Accelerator
) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=2), seed=0)
    trajectory, advantages = recalled(small_policy, "images", CONFIG)
    optimizer, loss = torch.optim.SGD(weights, lr=0.0), {}
    for sharpness in (0.0, 1.0, 1000.0):
        algorithm = SFT(sharpness=sharpness)
        loss[sharpness] = [
            learn(algorithm, accelerator, small_policy, optimizer, trajectory, sign * advantages, CONFIG)["train/loss"]
            for sign in (1, -1)
        ]
    (both, again), (some, other), (liked, disliked) = loss.values()
    assert both == pytest.approx(again)
    assert liked + disliked == pytest.approx(
        2 * both, rel=1e-5
    )  # each image counts in one of them, and in both by half
    share = 1 / (1 + torch.tensor(-1.0).exp().item())
    assert some == pytest.approx(share * liked + (1 - share) * disliked, rel=1e-5)
    assert other == pytest.approx(share * disliked + (1 - share) * liked, rel=1e-5)
    assert abs(liked - disliked) > 0.01 * both


def test_updates_lower_the_loss_at_the_same_noise(small_policy: Policy, accelerator: Accelerator) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=4), seed=0)
    trajectory, advantages = recalled(small_policy, "images", CONFIG)
    learned = torch.optim.Adam(weights, lr=1e-2)
    losses = [
        learn(ONE, accelerator, small_policy, learned, trajectory, advantages, CONFIG)["train/loss"] for _ in range(8)
    ]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("liked", "disliked", "sign"), [(5.0, 1.0, 1), pytest.param(1.0, 5.0, -1, marks=pytest.mark.slow)]
)
def test_what_is_drawn_comes_nearer_to_what_was_liked(
    liked: float, disliked: float, sign: int, small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    examples, algorithm = rated(liked, disliked), SFT(learning_rate=1e-2, num_updates=3)
    name = train(
        small_policy, None, prompts_of(examples), CONFIG, algorithm, tmp_path, accelerator, {"darkness": darkness},
        examples=examples,
    )  # fmt: skip
    remove_adapter(small_policy, name)
    before, after = (row["eval/darkness_mean"] for row in read_metrics(tmp_path / "validation.jsonl"))
    assert sign * (after - before) > 0.05


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_with_the_same_adapter_bit_for_bit(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    config = replace(
        CONFIG, num_iterations=3, images_per_iteration=4, checkpoint_every=1, validation=ValidationSettings(every=0)
    )
    states = []
    for folder, lengths in (("whole", [3]), ("parts", [2, 3])):
        for length in lengths:
            examples = rated()
            name = train(
                small_policy, None, prompts_of(examples), replace(config, num_iterations=length), SFT(),
                tmp_path / folder, accelerator, examples=examples,
            )  # fmt: skip
            state = adapter_state(small_policy, name)
            remove_adapter(small_policy, name)
        states.append(state)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(value.any() for key, value in states[0].items() if "lora_B" in key)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sharpness": -1.0}, r"sft's sharpness is -1.0; use 0, for which all count alike, or more"),
        ({"kl_weight": 0.1}, r"sft's kl_weight is 0.1, but it measures no distance; leave it 0"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        SFT(**settings)  # type: ignore[arg-type]
