"""Images sampled by other calls than those that are learned from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from learning import learn

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.ddpo_sf import DDPOSF
from pamela_rl.algorithms.grpo import GRPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.precision import computing
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.training.processes import mismatch_thresholds

CONFIG = TrainConfig(
    images_per_iteration=4, group_size=2, batch_size=2, lora=LoraSettings(rank=2),
    sampling=SamplingConfig(num_inference_steps=4, train_steps=2, guidance_scale=3.0),
)  # fmt: skip
FREED = replace(CONFIG, sampling_batch_size=4)


def learned(
    policy: Policy, accelerator: Accelerator, algorithm: Algorithm, config: TrainConfig, off: float = 0.0
) -> tuple[list[torch.Tensor], dict[str, float]]:
    """The gradients of an iteration, and its statistics; the rollout's log-probabilities are ``off`` by so much."""
    if "ada" not in policy.adapters:
        for weight in add_adapter(policy, "ada", CONFIG.lora, 0):
            torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(1))
    batch = PromptSource(["a boat", "a tree"], "ada").draw(0, 2, 2, 0)
    freed = algorithm.frees_sampling(config)
    drawn = rollout(
        policy, batch, config.sampling, 0, 0, config.sampled_at_once, algorithm.kept_steps,
        algorithm.keeps_means and not freed, as_trained=not freed,
    )  # fmt: skip
    drawn = replace(drawn, log_probs=drawn.log_probs + off)
    gradients: list[torch.Tensor] = []
    optimizer = torch.optim.SGD([policy.adapters["ada"].weights], lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: gradients.append(policy.adapters["ada"].weights.grad.clone()))
    stats = learn(algorithm, accelerator, policy, optimizer, drawn, torch.tensor([1.0, -1, 0.5, -0.5]), config)
    return gradients, stats


@pytest.mark.parametrize(
    ("algorithm", "calls"),
    [
        (DDPO(num_updates=1, kl_weight=0.1), 0),
        (DDPOSF(), 0),
        (GRPO(num_updates=2, guard=True), 4),
        (DDPO(num_inner_epochs=2), 4),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_is_learned_is_the_same_and_ratios_start_from_trainings_own(
    small_policy: Policy, accelerator: Accelerator, algorithm: Algorithm, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound, _ = learned(small_policy, accelerator, algorithm, CONFIG)
    sizes: list[int] = []
    own = small_policy.predict

    def counting(latents: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        sizes.append(len(latents))
        return own(latents, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(small_policy, "predict", counting)
    freed, stats = learned(small_policy, accelerator, algorithm, FREED)
    assert sizes[:4] == [4] * 4  # one call a step
    assert set(sizes[4:]) == {2}
    for mine, theirs in zip(freed, bound, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-3)
    assert stats["train/sampling_mismatch"] < 1e-5
    assert stats["train/clip_fraction"] == 0  # the learning rate is 0
    assert stats["train/approx_kl"] == 0  # to the bit


def test_a_policy_that_sampled_otherwise_is_seen_though_ratios_start_at_one(
    small_policy: Policy, accelerator: Accelerator
) -> None:
    for algorithm in (DDPO(num_updates=1), DDPO(num_updates=2)):
        _, stats = learned(small_policy, accelerator, algorithm, FREED, off=0.02)
        assert stats["train/sampling_mismatch"] == pytest.approx(1 - torch.tensor(-0.02).exp().item(), rel=1e-3)
        assert stats["train/approx_kl"] == 0


def test_sampling_is_free_where_that_costs_no_call() -> None:
    several = DDPO(num_updates=2)
    assert [a.frees_sampling(CONFIG) for a in (NFT(), DDPOSF(), DDPO(num_updates=1), several)] == [
        True,
        True,
        True,
        False,
    ]
    assert several.frees_sampling(FREED)
    assert several.footprint(FREED).predictions_per_pair == 1
    assert several.footprint(CONFIG).predictions_per_pair == 0


def test_thresholds_allow_rounding_where_calls_differ(small_policy: Policy, accelerator: Accelerator) -> None:
    one, two = DDPO(num_updates=1), DDPO(num_updates=2)
    assert mismatch_thresholds(accelerator, small_policy, one, CONFIG).stop == 0
    assert mismatch_thresholds(accelerator, small_policy, two, CONFIG).stop == 0
    assert mismatch_thresholds(accelerator, small_policy, one, FREED).stop == 1e-2
    small_policy.compiled = True  # whose graph without gradients rounds otherwise
    assert mismatch_thresholds(accelerator, small_policy, one, CONFIG).stop == 1e-2
    assert mismatch_thresholds(accelerator, small_policy, two, CONFIG).stop == 0


def test_a_half_precision_base_computes_the_same_under_any_launcher(small_policy: Policy) -> None:
    class Mixed:
        def autocast(self) -> torch.autocast:
            return torch.autocast("cpu", dtype=torch.bfloat16)

    with computing(small_policy, Mixed()):  # type: ignore[arg-type]
        assert torch.is_autocast_enabled("cpu")
    small_policy.dtype = torch.bfloat16
    with computing(small_policy, Mixed()):  # type: ignore[arg-type]
        assert not torch.is_autocast_enabled("cpu")
