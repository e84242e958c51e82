from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from learning import darkness, learn

from pamela_rl.algorithms.forward_process import levels_and_noise
from pamela_rl.algorithms.learner import AdapterCopy, Experience, Learner
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError
from pamela_rl.types import Trajectory

CONFIG = TrainConfig(
    images_per_iteration=4, group_size=2, batch_size=4, sampling=SamplingConfig(4, eta=0.0, train_steps=2)
)
ADVANTAGES = torch.tensor([5.0, -5.0, 1.0, -1.0])
ONE = NFT(num_updates=1, beta=0.5, kl_weight=0.01, max_grad_norm=1e9)


def drawn(policy: Policy) -> Trajectory:
    batch = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    return rollout(policy, batch, CONFIG.sampling, 0, 0, 4, ONE.kept_steps)


def moved(policy: Policy) -> tuple[list[torch.nn.Parameter], AdapterCopy]:
    """A trained adapter, and an old copy that lies elsewhere."""
    weights = add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    for number, weight in enumerate(weights):
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
    old = AdapterCopy(policy.adapters["ada"])
    old.adapter.weights *= 0.5
    return weights, old


def test_the_gradient_is_that_of_the_papers_loss(small_policy: Policy, accelerator: Accelerator) -> None:
    weights, old = moved(small_policy)
    trajectory = drawn(small_policy)
    assert trajectory.latents.shape[1] == 0
    seen: list[torch.Tensor] = []
    optimizer = torch.optim.SGD(weights, lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.extend(w.grad.clone() for w in weights))
    stats = learn(ONE, accelerator, small_policy, optimizer, trajectory, ADVANTAGES, CONFIG, old)

    # the loss as it stands in the paper, over the same noise and levels, in one batch; r = .5 + advantage / 10
    schedule = small_policy.schedule(4, 0.0)
    r = torch.tensor([1.0, 0.0, 0.6, 0.4])
    loss, beta, distance = torch.zeros(()), 0.5, torch.zeros(())
    levels, noise = levels_and_noise(trajectory.final_latents, trajectory.image_ids, 4, 2, CONFIG.seed, 0)
    told = trajectory.conditioning[trajectory.prompt_index]
    asked = []
    for slot in range(2):
        step, x0 = levels[:, slot], trajectory.final_latents
        alpha = schedule.alpha_bar[step].view(-1, 1, 1, 1)  # type: ignore[attr-defined]
        xt = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise[:, slot]
        with torch.no_grad(), small_policy.wearing(old.adapter):
            v_old = small_policy.predict(xt, schedule.timesteps[step], told, None, 1.0)
        asked.append((alpha, xt, schedule.timesteps[step], v_old))
    for alpha, xt, time, v_old in asked:
        v = small_policy.predict(xt, time, told, None, 1.0)
        with torch.no_grad(), adapter_off(small_policy):
            v_ref = small_policy.predict(xt, time, told, None, 1.0)
        for share, mixed in ((r, (1 - beta) * v_old + beta * v), (1 - r, (1 + beta) * v_old - beta * v)):
            error = alpha.sqrt() * xt - (1 - alpha).sqrt() * mixed - trajectory.final_latents
            weight = error.detach().abs().mean(dim=(1, 2, 3))
            loss = loss + (5 * share * error.square().mean(dim=(1, 2, 3)) / weight / beta).sum() / 8
        distance = distance + (v - v_ref).square().mean(dim=(1, 2, 3)).sum() / 8
    expected = torch.autograd.grad(loss + 0.01 * distance, weights)
    for mine, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
    assert stats["train/loss"] == pytest.approx((loss + 0.01 * distance).item(), rel=1e-5)
    assert stats["train/reference_mse"] == pytest.approx(distance.item(), rel=1e-5)
    assert stats["train/old_mse"] > 0


def test_pictures_that_are_neither_good_nor_bad_teach_nothing_to_the_bit(
    small_policy: Policy, accelerator: Accelerator
) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=2), seed=0)
    trajectory, start = drawn(small_policy), [w.detach().clone() for w in weights]
    optimizer, still = torch.optim.Adam(weights, lr=1e-2), torch.zeros(4)
    learn(
        NFT(num_updates=2),
        accelerator,
        small_policy,
        optimizer,
        trajectory,
        still,
        CONFIG,
        AdapterCopy(small_policy.adapters["ada"]),
    )
    assert all(torch.equal(a, b) for a, b in zip(weights, start, strict=True))


def test_the_old_copy_follows_more_slowly_as_time_goes() -> None:
    algorithm = NFT(old_decay_rate=0.01, old_decay_max=0.3)
    assert [algorithm.old_decay(steps) for steps in (0, 10, 100)] == [0.0, 0.1, 0.3]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beta": 0.0}, "nft's beta is 0.0"),
        ({"advantage_scale": 0.0}, "advantage_scale is 0.0"),
        ({"old_decay_rate": -1.0}, "old_decay_rate is -1.0"),
        ({"old_decay_max": 1.0}, "old_decay_max is 1.0; use 0 to below 1"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        NFT(**settings)  # type: ignore[arg-type]


def test_a_picture_without_a_reward_is_left_out(small_policy: Policy, accelerator: Accelerator) -> None:
    weights, old = moved(small_policy)
    trajectory, seen = drawn(small_policy), []
    optimizer = torch.optim.SGD(weights, lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.append(torch.cat([w.grad.flatten() for w in weights])))
    for change in (0.0, 1.0):  # what the picture without a reward looks like makes no difference
        known = torch.tensor([0.0, 1.0, 1.0, 1.0])
        latents = trajectory.final_latents.clone()
        latents[0] += change
        learner = Learner(accelerator, small_policy, optimizer, CONFIG, darkness, old=old)
        batch = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
        shown = replace(trajectory, final_latents=latents)
        replace(ONE, kl_weight=0.0).update(learner, Experience(0, batch, CONFIG.sampling, shown, ADVANTAGES, known))
    assert torch.equal(seen[0], seen[1])
    assert seen[0].abs().max() > 0
