from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from learning import darkness
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.learner import AdapterCopy, Experience, Learner
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapter_bank import AdapterBank, Stacked
from pamela_rl.diffusion.adapters import add_adapter, load_adapter, save_adapter
from pamela_rl.diffusion.dropout import kept_inputs
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.errors import ConfigError

DROPPING = TrainConfig(
    images_per_iteration=4,
    group_size=2,
    batch_size=4,
    sampling=SamplingConfig(3, eta=0.0, train_steps=2),
    lora=LoraSettings(rank=2, dropout=0.5),
)


def rslora(policy: Policy) -> LoraSettings:
    return LoraSettings(rank=4, alpha=3, rslora=True, init="kaiming", targets=["to_q", "ff.net.2"])


def test_layers_init_and_rslora_are_pefts_and_diffusers_loads_what_was_trained(policy: Policy, tmp_path: Path) -> None:
    settings = rslora(policy)
    policy.adapt(settings.targets)
    (weights,) = add_adapter(policy, "ada", settings, seed=5)
    other = load_pipeline("world").unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        other.add_adapter(LoraConfig(r=4, lora_alpha=3, target_modules=["to_q", "ff.net.2"], use_rslora=True))
    theirs, ours = get_peft_model_state_dict(other), policy.adapters["ada"].state()
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    torch.nn.init.normal_(weights, std=0.1)
    save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    loaded = policy_for(load_adapter(load_pipeline("world"), tmp_path, "ada"))
    told = policy.encode(["a boat"] * 2)
    asked = (policy.initial_latents([torch.Generator()] * 2), torch.full((2,), 300.0), told, None, 1.0)
    ours_now = policy.predict(*asked).detach()
    torch.testing.assert_close(ours_now, loaded.predict(*asked), atol=1e-5, rtol=1e-5)
    policy.adapter = None
    assert float((ours_now - policy.predict(*asked)).abs().max()) > 0.01


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "dora"}, r"lora.kind is 'dora', which scales the base model's own weights anew for every person"),
        ({"kind": "locon"}, r"lora.kind is 'locon', which adapts convolutions"),
        ({"kind": "lokr"}, r"'lokr', which is a Kronecker product; .* so use 'lora'"),
        ({"init": "pissa"}, r"lora.init is 'pissa'; use gaussian or kaiming: an adapter must begin as the base model"),
        ({"dropout": 1.0}, r"lora.dropout is 1.0; use 0, which drops nothing, to below 1"),
        ({"targets": []}, r"lora.targets is empty"),
    ],
)
def test_what_a_bank_of_adapters_cannot_do_is_refused_with_its_reason(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        LoraSettings(**changes)


def test_targets_that_are_convolutions_are_refused(policy: Policy) -> None:
    with pytest.raises(
        ConfigError, match=r"layers conv1: some are Conv2d; .*train.lora.targets, must name linear layers"
    ):
        policy.adapt(["conv1"])


def test_algorithms_that_compare_densities_refuse_dropout() -> None:
    NFT().check(DROPPING)
    config = replace(DROPPING, sampling=replace(DROPPING.sampling, eta=1.0))
    with pytest.raises(ConfigError, match=r"lora.dropout is 0.5, but ddpo compares what is learned from with what was"):
        DDPO(num_updates=1).check(config)


def test_kept_inputs_follow_from_their_key_and_keep_their_share() -> None:
    ids, steps = torch.tensor([0, 1, 0, 7]), torch.tensor([3, 3, 4, 3])
    kept = kept_inputs(0, 2, ids, steps, 20_000, 0.25)
    torch.testing.assert_close(kept.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert torch.equal(kept_inputs(0, 2, ids[1:2], steps[1:2], 20_000, 0.25), kept[1:2])
    torch.testing.assert_close(kept.mean(dim=1), torch.ones(4), atol=0.02, rtol=0)  # four standard errors
    others = [kept[1], kept[2], kept[3], kept_inputs(1, 2, ids, steps, 20_000, 0.25)[0]]
    others.append(kept_inputs(0, 3, ids, steps, 20_000, 0.25)[0])
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([kept[0], other]))[0, 1])) < 0.03


def gradient(
    policy: Policy, accelerator: Accelerator, config: TrainConfig, checkpointing: bool = False
) -> torch.Tensor:
    """The gradient of NFT's update, on images that were drawn with the adapter."""
    (weights,) = add_adapter(policy, "ada", config.lora, seed=0)
    torch.nn.init.normal_(weights, std=0.05, generator=torch.Generator().manual_seed(0))
    batch = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    algorithm, seen = NFT(), []
    drawn = rollout(policy, batch, config.sampling, 0, 0, 4, algorithm.kept_steps)
    optimizer = torch.optim.SGD([weights], lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.append(weights.grad.clone()))  # type: ignore[union-attr]
    learner = Learner(accelerator, policy, optimizer, config, darkness, old=AdapterCopy(policy.adapters["ada"]))
    if checkpointing:
        policy.denoiser.enable_gradient_checkpointing()
        policy.denoiser.train()
    advantages = torch.tensor([5.0, -5.0, 1.0, -1.0])
    algorithm.update(learner, Experience(0, batch, config.sampling, drawn, advantages, torch.ones(4)))
    return seen[0]


def test_dropout_changes_gradients_and_not_with_the_batch_nor_with_checkpoints(
    small_policy: Policy, accelerator: Accelerator
) -> None:
    whole = gradient(small_policy, accelerator, DROPPING)
    without = gradient(small_policy, accelerator, replace(DROPPING, lora=LoraSettings(rank=2)))
    assert float((whole - without).norm()) > 0.1 * float(without.norm())
    again = gradient(small_policy, accelerator, DROPPING)
    assert torch.equal(whole, again)
    cut = gradient(small_policy, accelerator, replace(DROPPING, batch_size=1))
    torch.testing.assert_close(cut, whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-4)
    repeated = gradient(small_policy, accelerator, DROPPING, checkpointing=True)
    torch.testing.assert_close(repeated, whole, atol=1e-5 * float(whole.abs().max()), rtol=1e-4)


def test_a_call_without_what_is_not_seen_is_the_call_of_inputs_without_it(small_policy: Policy) -> None:
    torch.manual_seed(3)
    layer = torch.nn.Linear(6, 5)
    bank = AdapterBank.of(torch.nn.ModuleDict({"lin": layer}), ["lin"])
    weights = torch.randn(2, bank.size(3))
    inputs, kept = torch.randn(4, 7, 6), (torch.rand(4, 6) > 0.5) * 2.0
    stacked = Stacked(weights, (torch.Size([3, 6]), torch.Size([5, 3])))
    with bank.on(stacked.matrices(kept)):
        dropped = layer(inputs)
    base = layer(inputs)
    with bank.on(stacked.matrices()):
        effect = layer(inputs * kept.unsqueeze(1)) - torch.nn.functional.linear(
            inputs * kept.unsqueeze(1), layer.weight, layer.bias
        )
    torch.testing.assert_close(dropped, base + effect)
