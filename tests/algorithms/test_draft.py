from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler
from learning import darkness, learn
from torch import Tensor

from pamela_rl.algorithms.draft import DRaFT
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.config import AdvantageSettings, LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError
from pamela_rl.types import RewardOutput, Trajectory

QUIET = SamplingConfig(4, eta=0.0, train_steps=1)
CONFIG = TrainConfig(images_per_iteration=4, group_size=2, batch_size=4, sampling=QUIET)
NOTHING = torch.zeros(4)  # advantages, which are not asked for


def adapter(policy: Policy) -> list[torch.nn.Parameter]:
    weights = add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    for number, weight in enumerate(weights):
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
    return weights


def drawn(policy: Policy, algorithm: DRaFT, sampling: SamplingConfig = QUIET) -> Trajectory:
    batch = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    return rollout(policy, batch, sampling, 0, 0, 4, algorithm.kept_steps)


def gradient(
    policy: Policy, accelerator: Accelerator, algorithm: DRaFT, config: TrainConfig = CONFIG
) -> tuple[list[Tensor], Trajectory, list[torch.nn.Parameter]]:
    weights, seen = adapter(policy), []
    trajectory = drawn(policy, algorithm, config.sampling)
    optimizer = torch.optim.SGD(weights, lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.extend(w.grad.clone() for w in weights))
    learn(algorithm, accelerator, policy, optimizer, trajectory, NOTHING, config)
    return seen, trajectory, weights


@pytest.mark.parametrize("depth", [1, 3])
def test_the_gradient_is_that_of_the_reward_through_the_schedulers_own_last_steps(
    small_policy: Policy, accelerator: Accelerator, depth: int
) -> None:
    algorithm = DRaFT(num_steps=depth, kl_weight=0.0, num_updates=1, max_grad_norm=1e9)
    seen, trajectory, weights = gradient(small_policy, accelerator, algorithm)
    assert trajectory.latents.shape[1] == depth
    scheduler = DDIMScheduler.from_config(small_policy.pipeline.scheduler.config)
    scheduler.set_timesteps(4)
    latents, told = trajectory.latents[:, 0], trajectory.conditioning[trajectory.prompt_index]
    for time in scheduler.timesteps[-depth:]:
        output = small_policy.predict(latents, time.float().expand(4), told, None, 1.0)
        latents = scheduler.step(output, time, latents).prev_sample
    rewards = darkness(small_policy.decode(latents), ["a boat"] * 4, ["ada"] * 4).mean
    expected = torch.autograd.grad(-rewards.mean(), weights)
    assert sum(float(g.square().sum()) for g in expected) > 1e-8
    for mine, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-3)


def test_noisy_steps_are_gone_down_again_with_the_noise_that_was_drawn(
    small_policy: Policy, accelerator: Accelerator
) -> None:
    shown: list[Tensor] = []

    def watching(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        shown.append(images.detach())
        assert list(prompts) == ["a boat", "a boat", "a tree", "a tree"]
        return darkness(images, prompts, user_ids)

    algorithm = DRaFT(num_steps=3, num_updates=1)
    noisy = replace(CONFIG, sampling=replace(QUIET, eta=1.0))
    weights, batch = adapter(small_policy), PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    batch = replace(batch, prompts=("a boat", "a boat", "a tree", "a tree"))
    trajectory = rollout(small_policy, batch, noisy.sampling, 0, 0, 4, algorithm.kept_steps)
    learner = Learner(accelerator, small_policy, torch.optim.SGD(weights, lr=0.0), noisy, watching)
    algorithm.update(learner, Experience(0, batch, noisy.sampling, trajectory, NOTHING, NOTHING + 1))
    torch.testing.assert_close(shown[0], trajectory.images, atol=1e-5, rtol=0)


def test_without_the_rewards_gradient_nothing_moves(small_policy: Policy, accelerator: Accelerator) -> None:
    weights = add_adapter(small_policy, "ada", LoraSettings(rank=2), seed=0)
    start = [w.detach().clone() for w in weights]
    control = replace(CONFIG, advantages=AdvantageSettings(zero=True))
    trajectory = drawn(small_policy, DRaFT())
    learn(DRaFT(), accelerator, small_policy, torch.optim.Adam(weights, lr=1e-2), trajectory, NOTHING, control)
    assert all(torch.equal(a, b) for a, b in zip(weights, start, strict=True))


@pytest.mark.parametrize("corrupt", [lambda x: x * float("nan"), lambda x: x + float("nan")], ids=["times", "plus"])
def test_a_picture_without_a_reward_teaches_nothing_and_spoils_nothing(
    small_policy: Policy, accelerator: Accelerator, corrupt: Callable[[Tensor], Tensor]
) -> None:
    def patchy(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        scores = darkness(images, prompts, user_ids).mean
        return RewardOutput(torch.cat([corrupt(scores[:1]), scores[1:]]))

    def others(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        scores = darkness(images, prompts, user_ids).mean
        return RewardOutput(torch.cat([0 * scores[:1], scores[1:]]))

    weights, batch = adapter(small_policy), PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    gradients, algorithm = [], DRaFT(kl_weight=0.0)
    experience = Experience(0, batch, QUIET, drawn(small_policy, algorithm), NOTHING, NOTHING + 1)
    for reward in (patchy, others):
        optimizer = torch.optim.SGD(weights, lr=0.0)
        optimizer.register_step_pre_hook(lambda *_: gradients.append(torch.cat([w.grad.flatten() for w in weights])))
        stats = algorithm.update(Learner(accelerator, small_policy, optimizer, CONFIG, reward), experience)
        assert stats["train/skipped_updates"] == 0
        assert stats["train/loss"] == pytest.approx(float(experience.trajectory.images[1:].mean()) * 0.75, abs=1e-3)
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0


def test_a_reward_without_a_gradient_is_refused(small_policy: Policy, accelerator: Accelerator) -> None:
    def blind(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        return RewardOutput(images.detach().mean(dim=(1, 2, 3)))

    weights, batch = adapter(small_policy), PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    learner = Learner(accelerator, small_policy, torch.optim.SGD(weights, lr=0.0), CONFIG, blind)
    experience = Experience(0, batch, QUIET, drawn(small_policy, DRaFT()), NOTHING, NOTHING + 1)
    with pytest.raises(
        ConfigError, match=r"the reward gives no gradient .* an algorithm that needs none: ddpo, grpo, nft"
    ):
        DRaFT().update(learner, experience)


def test_a_random_depth_is_drawn_anew_in_every_iteration() -> None:
    algorithm = DRaFT(num_steps=4, random_depth=True)
    learner = Learner(*[None] * 3, CONFIG, darkness)  # type: ignore[arg-type]
    depths = [algorithm._depth(learner, iteration) for iteration in range(60)]
    assert set(depths) == {1, 2, 3, 4}
    assert DRaFT(num_steps=4)._depth(learner, 0) == 4


def test_more_steps_than_a_picture_takes_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_steps is 11 but an image takes 10 steps"):
        DRaFT(num_steps=11).check(TrainConfig())
    with pytest.raises(ConfigError, match="num_steps is 0; use 1 or more"):
        DRaFT(num_steps=0)
