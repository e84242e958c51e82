from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from learning import learn
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.policy_gradient import clipped_loss
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter, remove_adapter
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.types import Trajectory

CONFIG = TrainConfig(
    images_per_iteration=6,
    group_size=3,
    batch_size=6,
    sampling=SamplingConfig(num_inference_steps=4, train_steps=2),
)
ALGORITHM = DDPO(num_updates=1, kl_weight=0.1)
ADVANTAGES = torch.tensor([1.0, -0.5, -0.5, 2.0, -1.0, -1.0])


def test_the_clipped_loss_is_the_one_worked_out_by_hand() -> None:
    ratio = torch.tensor([1.0, 1.2, 1.2, 0.7, 0.7])
    advantages = torch.tensor([2.0, 1.0, -1.0, 1.0, -1.0])
    # a gain is capped at 1.1, a loss is never hidden: -2, -1.1, 1.2, -0.7, 0.9
    torch.testing.assert_close(clipped_loss(ratio, advantages, 0.1), torch.tensor([-2.0, -1.1, 1.2, -0.7, 0.9]))


def draw(policy: StableDiffusionPolicy, config: TrainConfig) -> Trajectory:
    batch = PromptSource(["a boat", "a tree"], "ada").draw(0, config.prompts_per_iteration, config.group_size, 0)
    return rollout(policy, batch, config.sampling, 0, 0, config.batch_size)


def adapter(policy: StableDiffusionPolicy) -> list[torch.nn.Parameter]:
    """A moved adapter, so that ratio, KL and both LoRA matrices matter."""
    weights = add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    for number, weight in enumerate(weights):
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(number))
    return weights


def gradient(
    policy: StableDiffusionPolicy, accelerator: Accelerator, config: TrainConfig, drawn: Trajectory | None = None
) -> tuple[Tensor, dict[str, float]]:
    """The gradient of one update as the optimizer sees it, flat."""
    weights, seen = adapter(policy), []
    optimizer = torch.optim.SGD(weights, lr=1.0)
    optimizer.register_step_pre_hook(lambda *_: seen.append(torch.cat([w.grad.flatten() for w in weights])))
    stats = learn(ALGORITHM, accelerator, policy, optimizer, drawn or draw(policy, config), ADVANTAGES, config)
    remove_adapter(policy, "ada")
    return seen[0].double(), stats


@pytest.mark.parametrize("guidance_scale", [pytest.param(1.0, marks=pytest.mark.slow), 2.0])
def test_gradients_do_not_depend_on_the_cut_and_the_ratio_is_exactly_one(
    policy: StableDiffusionPolicy, accelerator: Accelerator, guidance_scale: float
) -> None:
    config = replace(
        CONFIG,
        sampling=replace(CONFIG.sampling, guidance_scale=guidance_scale),
    )
    for batch_size in (16, 3, 1):
        _, stats = gradient(policy, accelerator, replace(config, batch_size=batch_size))
        assert stats["train/sampling_mismatch"] == 0.0
    adapter(policy)
    drawn = draw(policy, config)
    remove_adapter(policy, "ada")
    whole, third, single = (
        gradient(policy, accelerator, replace(config, batch_size=size), drawn)[0] for size in (16, 3, 1)
    )
    assert whole.norm() > 1e-3
    # what is left is the rounding of fp32 kernels, which differ with the shape of a call: 0.9e-6 to 1.7e-6 here
    assert float((third - whole).norm() / whole.norm()) < 2e-6
    assert float((single - whole).norm() / whole.norm()) < 2e-6


def test_an_update_makes_rewarded_pictures_more_probable(
    policy: StableDiffusionPolicy, accelerator: Accelerator
) -> None:
    weights = add_adapter(policy, "ada", LoraSettings(rank=2), seed=0)
    drawn = draw(policy, CONFIG)
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    config = CONFIG
    learn(DDPO(num_updates=1, num_inner_epochs=2), accelerator, policy, optimizer, drawn, ADVANTAGES, config)
    schedule = policy.schedule(config.sampling.num_inference_steps, config.sampling.eta)
    gain = torch.zeros(())
    for slot in range(2):
        step = drawn.step_index[:, slot]
        told = drawn.conditioning[drawn.prompt_index]
        output = policy.predict(drawn.latents[:, slot], schedule.timesteps[step], told, None, 1.0)
        now = schedule.transition(output, drawn.latents[:, slot], step).log_prob(drawn.next_latents[:, slot])
        gain = gain + (ADVANTAGES * (now - drawn.log_probs[:, slot])).sum()
    assert gain > 0


def test_gradients_reach_every_lora_weight_and_nothing_else(
    policy: StableDiffusionPolicy, accelerator: Accelerator
) -> None:
    before = {name: value.clone() for name, value in policy.denoiser.state_dict().items()}
    weights = adapter(policy)
    start = [weight.detach().clone() for weight in weights]
    drawn = draw(policy, CONFIG)
    learn(ALGORITHM, accelerator, policy, torch.optim.SGD(weights, lr=1.0), drawn, ADVANTAGES, CONFIG)
    assert all((a != b).any() for a, b in zip(weights, start, strict=True))
    remove_adapter(policy, "ada")
    after = {name.replace(".base_layer", ""): value for name, value in policy.denoiser.state_dict().items()}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
