from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from learning import darkness, learn
from rated_examples import dark_and_bright, prompts_of, rated, recalled
from torch.nn.functional import logsigmoid

from pamela_rl.algorithms.dpo import DPO
from pamela_rl.algorithms.forward_process import NoisedImages, levels_and_noise
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.sft import SFT
from pamela_rl.config import AdvantageSettings, LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.diffusion.adapters import adapter_state, add_adapter
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.errors import ConfigError
from pamela_rl.storage import read_metrics
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.loop import train

CONFIG = TrainConfig(
    num_iterations=8,
    images_per_iteration=8,
    group_size=2,
    batch_size=8,
    checkpoint_every=10,
    sampling=SamplingConfig(5, train_steps=3),
    lora=LoraSettings(rank=4, alpha=4),
    validation=ValidationSettings(every=8, num_images=8),
)
ONE = DPO(beta=30.0, max_grad_norm=1e9)


def moved(policy: Policy) -> list[torch.nn.Parameter]:
    weights = add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    for number, weight in enumerate(weights):
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
    return weights


@pytest.mark.parametrize("batch_size", [8, 2])
def test_the_gradient_is_that_of_the_papers_loss(
    small_policy: Policy, accelerator: Accelerator, batch_size: int
) -> None:
    weights = moved(small_policy)
    trajectory, advantages = recalled(small_policy, "pairs", CONFIG)
    assert advantages.tolist() == [1.0, -1.0] * 4
    seen: list[torch.Tensor] = []
    optimizer = torch.optim.SGD(weights, lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.extend(w.grad.clone() for w in weights if w.grad is not None))
    settings = replace(CONFIG, batch_size=batch_size)
    stats = learn(ONE, accelerator, small_policy, optimizer, trajectory, advantages, settings)

    # equation 14 with the paper's beta T as beta, and the half of its authors' code
    schedule, x0 = small_policy.schedule(5, 0.0), trajectory.final_latents
    levels, noise = levels_and_noise(x0[::2], torch.arange(4), 5, 1, CONFIG.seed, 0)
    step, noise = levels[:, 0].repeat_interleave(2), noise[:, 0].repeat_interleave(2, dim=0)
    alpha = schedule.alpha_bar[step].view(-1, 1, 1, 1)  # type: ignore[attr-defined]
    xt = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
    target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0  # the world predicts velocities
    told = trajectory.conditioning[trajectory.prompt_index]
    with torch.no_grad(), adapter_off(small_policy):
        reference = small_policy.predict(xt, schedule.timesteps[step], told, None, 1.0)
    now = small_policy.predict(xt, schedule.timesteps[step], told, None, 1.0)
    error = (now - target).square().mean(dim=(1, 2, 3)) - (reference - target).square().mean(dim=(1, 2, 3))
    margin = error[1::2] - error[::2]
    loss = -logsigmoid(15.0 * margin).mean()
    for mine, theirs in zip(seen, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=2e-4)
    assert stats["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert stats["train/accuracy"] == float((margin > 0).float().mean())
    assert stats["train/reference_mse"] == pytest.approx((now - reference).square().mean().item(), rel=1e-4)


def test_a_fresh_adapter_is_as_good_as_the_base_at_every_pair(small_policy: Policy, accelerator: Accelerator) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=2), seed=0)
    trajectory, advantages = recalled(small_policy, "pairs", CONFIG)
    stats = learn(DPO(), accelerator, small_policy, torch.optim.SGD(weights, lr=0.0), trajectory, advantages, CONFIG)
    assert stats["train/loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert (stats["train/accuracy"], stats["train/reference_mse"]) == (0.0, 0.0)
    assert stats["train/grad_norm"] > 0


def test_images_of_a_pair_get_the_same_noise_at_the_same_level(small_policy: Policy, accelerator: Accelerator) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=2), seed=0)
    trajectory, advantages = recalled(small_policy, "pairs", CONFIG)
    learner = Learner(accelerator, small_policy, torch.optim.SGD(weights, lr=0.0), CONFIG, None)
    batch = rated().draw(0, "pairs", CONFIG)
    experience = Experience(3, batch, CONFIG.sampling, trajectory, advantages, torch.ones(8))
    noised = NoisedImages.of(DPO(), learner, experience, in_pairs=True)
    assert noised.noise.shape == (8, 1, *trajectory.final_latents.shape[1:])
    assert torch.equal(noised.noise[::2], noised.noise[1::2])
    assert torch.equal(noised.levels[::2], noised.levels[1::2])
    assert len(noised.noise.unique(dim=0)) == 4
    alone = NoisedImages.of(SFT(), learner, experience)
    assert alone.levels.shape == (8, 3)
    assert all(len(set(row)) == 3 for row in alone.levels.tolist())  # levels of an image do not repeat
    assert len(alone.noise[:, 0].unique(dim=0)) == 8


def test_which_image_of_a_pair_comes_first_makes_no_difference(small_policy: Policy, accelerator: Accelerator) -> None:
    weights = moved(small_policy)
    trajectory, advantages = recalled(small_policy, "pairs", CONFIG)
    swap = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    swapped = replace(
        trajectory, final_latents=trajectory.final_latents[swap], prompt_index=trajectory.prompt_index[swap]
    )
    optimizer = torch.optim.SGD(weights, lr=0.0)
    one, other, reverse = (
        learn(ONE, accelerator, small_policy, optimizer, *given, CONFIG)["train/loss"]
        for given in ((trajectory, advantages), (swapped, -advantages), (swapped, advantages))
    )
    assert other == pytest.approx(one, rel=1e-5)
    assert abs(reverse - one) > 1e-3


@pytest.mark.parametrize("sign", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_learning_tells_the_preferred_image_of_each_pair(
    small_policy: Policy, accelerator: Accelerator, sign: int
) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=4), seed=0)
    trajectory, advantages = recalled(small_policy, "pairs", CONFIG)
    optimizer, algorithm = torch.optim.Adam(weights, lr=3e-3), replace(ONE, beta=500.0)
    rows = [
        learn(algorithm, accelerator, small_policy, optimizer, trajectory, sign * advantages, CONFIG) for _ in range(6)
    ]
    assert rows[-1]["train/accuracy"] == 1.0
    assert rows[-1]["train/loss"] < 0.9 * math.log(2)


def test_what_is_drawn_comes_nearer_to_what_was_preferred(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    examples, algorithm = rated(), DPO(learning_rate=4e-3, num_inner_epochs=2, beta=200.0)
    train(
        small_policy, None, prompts_of(examples), CONFIG, algorithm, tmp_path, accelerator, {"darkness": darkness},
        examples=examples,
    )  # fmt: skip
    before, after = (row["eval/darkness_mean"] for row in read_metrics(tmp_path / "validation.jsonl"))
    assert after - before > 0.05
    accuracy = [row["train/accuracy"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert sum(accuracy[-3:]) / 3 > 0.8


def test_nothing_is_learned_without_the_signal(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    examples = rated()
    control = replace(
        CONFIG, num_iterations=2, advantages=AdvantageSettings(zero=True), validation=ValidationSettings(every=0)
    )
    name = train(
        small_policy, None, prompts_of(examples), control, DPO(learning_rate=1e-2), tmp_path, accelerator,
        examples=examples,
    )  # fmt: skip
    state = adapter_state(small_policy, name)
    assert all(value.abs().max() == 0 for key, value in state.items() if "lora_B" in key)


def test_choices_alone_are_enough(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    unrated = torch.full((8,), torch.nan, dtype=torch.float64)
    pairs = torch.tensor([[0, 1], [2, 3], [4, 7]])
    examples = RatedExamples.of("ada", dark_and_bright(), ["a boat"] * 8, unrated, pairs)
    once = replace(CONFIG, num_iterations=1, validation=ValidationSettings(every=0))
    train(small_policy, None, prompts_of(examples), once, DPO(), tmp_path, accelerator, examples=examples)
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["train/loss"] == pytest.approx(math.log(2), abs=1e-7)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 7}, r"batch_size is 7, but dpo learns from pairs of images; use 8 or 6"),
        ({"batch_size": 1}, r"batch_size is 1, but dpo learns from pairs of images; use 2\b(?! or 0)"),
        ({"images_per_iteration": 9, "group_size": 3}, r"images_per_iteration is 9, but dpo learns .*use 10 or 8"),
    ],
)
def test_numbers_that_cut_pairs_apart_are_refused(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        DPO().check(replace(CONFIG, **changes))  # type: ignore[arg-type]


def test_updates_that_cut_pairs_apart_are_refused() -> None:
    DPO(num_updates=4).check(CONFIG)
    with pytest.raises(ConfigError, match=r"dpo's num_updates is 8 but an iteration has 4 pairs, .*; use 1"):
        DPO(num_updates=8).check(CONFIG)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beta": 0.0}, r"dpo's beta is 0.0; use a positive one, e.g. 2000 or 5000"),
        ({"kl_weight": 0.1}, r"dpo's kl_weight is 0.1, but beta holds it at the base; leave it 0"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        DPO(**settings)  # type: ignore[arg-type]
