from __future__ import annotations

import sys

import pytest
import torch
from diffusers.optimization import get_scheduler
from torch import nn

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.optimizers import OPTIMIZERS, OptimizerSettings, averaged_weights
from pamela_rl.algorithms.registry import open_algorithm
from pamela_rl.config import EMASettings, TrainConfig
from pamela_rl.errors import ConfigError
from pamela_rl.training.checkpoint import optimizer_tensors, restore_optimizer


def step(optimizer: torch.optim.Optimizer, weights: nn.Parameter, seed: int) -> None:
    weights.grad = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)) + weights.detach()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_by_name_goes_on_from_its_checkpoint_to_the_bit(name: str) -> None:
    needed = OPTIMIZERS[name].partition(".")[0]
    pytest.importorskip(needed, reason="bitsandbytes is no part of [dev]: PEFT imports it wherever it is, for seconds")
    settings = OptimizerSettings(name)
    weights = nn.Parameter(torch.randn(8192))
    optimizer = settings.make([weights], 1.0 if name == "prodigy" else 1e-2, 1e-2)
    for seed in range(3):
        step(optimizer, weights, seed)
    copied = nn.Parameter(weights.detach().clone())
    resumed = settings.make([copied], 1.0 if name == "prodigy" else 1e-2, 1e-2)
    restore_optimizer(resumed, {key: value.clone() for key, value in optimizer_tensors(optimizer).items()})
    for seed in range(3, 6):
        step(optimizer, weights, seed)
        step(resumed, copied, seed)
    assert not torch.equal(weights, torch.zeros_like(weights))
    assert torch.equal(weights, copied)
    if settings.averages:
        assert torch.equal(averaged_weights(optimizer)[0], averaged_weights(resumed)[0])


def test_the_average_without_a_schedule_leaves_what_is_trained_as_it_is() -> None:
    weights = nn.Parameter(torch.randn(64))
    optimizer = OptimizerSettings("adamw_schedule_free").make([weights], 0.1, 0.0)
    seen = [weights.detach().clone()]
    for seed in range(4):
        step(optimizer, weights, seed)
        seen.append(optimizer.state[weights]["z"].clone())
    before = weights.detach().clone()
    (average,) = averaged_weights(optimizer)
    torch.testing.assert_close(average, torch.stack(seen[1:]).mean(dim=0))  # with a constant rate, of all steps
    assert torch.equal(weights, before)
    step(optimizer, weights, 9)  # and it can go on


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("cycles", [1, 3])
def test_rates_fall_as_diffusers_schedules_do(schedule: str, cycles: int) -> None:
    settings = OptimizerSettings(schedule=schedule, cycles=cycles)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(
        "cosine_with_restarts" if schedule == "cosine" else schedule, optimizer, num_warmup_steps=0, num_training_steps=12,
        num_cycles=cycles
    )  # fmt: skip
    for number in range(12):
        assert settings.rate_share(number, 12) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_a_rate_warms_up_from_its_first_step_and_ends_where_it_is_told() -> None:
    settings = OptimizerSettings(schedule="cosine", warmup_steps=4, end=0.1)
    rates = [settings.rate_share(step, 20) for step in range(21)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[20] != rates[19]  # the end is reached after the last step
    assert rates[19] == pytest.approx(0.1, abs=0.01)


def test_an_algorithm_takes_an_optimizer_by_name_or_with_settings() -> None:
    by_name = open_algorithm({"name": "nft", "optimizer": "sgd"})
    told = {"name": "adamw", "betas": [0.9, 0.99], "epsilon": 1e-6, "schedule": "linear"}
    in_full = open_algorithm({"name": "nft", "optimizer": told})
    assert by_name.optimizer_settings == OptimizerSettings("sgd")
    assert in_full.optimizer_settings.betas == [0.9, 0.99]
    made = in_full.optimizer_settings.make([nn.Parameter(torch.ones(2))], 1e-3, 0.1)
    assert isinstance(made, torch.optim.AdamW)
    assert {key: made.param_groups[0][key] for key in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1,
    }  # fmt: skip
    momentum = OptimizerSettings("sgd", arguments={"momentum": 0.9}).make([nn.Parameter(torch.ones(2))], 1e-3, 0.1)
    assert momentum.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"name": "muon"},
            r"name is 'muon', but it orthogonalises each matrix, and an adapter is trained as one vector",
        ),
        ({"name": "adafactor"}, r"'adafactor', but it saves memory by factors of each matrix"),
        ({"name": "adanw"}, r"optimizer.name is 'adanw'; use one of adamw, adam, "),
        ({"name": "sgd", "epsilon": 1e-8}, r"the optimizer sgd takes no eps; it takes lr, momentum, "),
        ({"arguments": {"momentum": 0.9}}, r"the optimizer adamw takes no momentum; it takes lr, betas, eps"),
        ({"name": "sgd", "arguments": {"nesterov": True}}, r"the optimizer sgd cannot be made: .*momentum"),
        ({"name": "prodigy"}, r"the learning_rate is 0.0003, but prodigy finds the size of its steps itself"),
        (
            {"name": "adamw_schedule_free", "schedule": "cosine"},
            r"adamw_schedule_free replaces schedules by an average",
        ),
        ({"betas": [0.9, 1.0]}, r"optimizer.betas is \[0.9, 1.0\]; use two numbers from 0 to below 1"),
        ({"betas": [0.9]}, r"optimizer.betas is \[0.9\]; use two numbers"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused_before_there_is_a_model(settings: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        DDPO(optimizer=OptimizerSettings(**settings))


def test_a_run_refuses_a_second_average_and_a_warm_up_longer_than_itself() -> None:
    average = NFT(optimizer="adamw_schedule_free")
    with pytest.raises(ConfigError, match=r"ema.decay is 0.9, but adamw_schedule_free publishes an average"):
        average.check(TrainConfig(ema=EMASettings(decay=0.9)))
    with pytest.raises(ConfigError, match=r"optimizer.warmup_steps is 90 but the run has 30 optimizer steps"):
        NFT(optimizer=OptimizerSettings(warmup_steps=90)).check(TrainConfig())


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(ConfigError, match=r"which needs prodigyopt: pip install 'pamela_rl\[optimizers\]'"):
        NFT(optimizer="prodigy", learning_rate=1.0)


def test_the_plan_counts_what_an_optimizer_keeps() -> None:
    found = {name: OptimizerSettings(name).bytes_per_weight() for name in ("adamw", "sgd", "prodigy")}
    assert found == {"adamw": 8, "sgd": 0, "prodigy": 16}
