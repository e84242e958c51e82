from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from tiny_pipelines import BUILDERS, CALL_OPTIONS, reloaded, saved
from torch import Tensor

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.adapter_bank import Adapter, AdapterBank
from pamela_rl.diffusion.adapters import add_adapter, load_adapter, save_adapter
from pamela_rl.diffusion.compiling import compile_denoiser
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import AdapterError, ConfigError
from pamela_rl.types import Conditioning

PROMPTS = ["a boat", "a lighthouse at dusk, from below", "a tree", "a boat"]
SETTINGS = LoraSettings(rank=2, alpha=3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bank")
    return {name: saved(name, root / name) for name in BUILDERS}


def adapters(policy: Policy, count: int = 2) -> list[Adapter]:
    found = [policy.bank.fresh(SETTINGS, seed, policy.device) for seed in range(count)]
    for number, adapter in enumerate(found):
        torch.nn.init.normal_(adapter.weights, std=0.1, generator=torch.Generator().manual_seed(number))
    return found


def guided_call(policy: Policy, rows: slice, people: list[Adapter | None]) -> Tensor:
    """Both branches of some rows' prompts, each person's rows side by side, as two people's calls come together."""
    latents = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in range(4)])
    told, negative = policy.encode(PROMPTS), policy.encode_negative("" if policy.embeds_guidance else "fog", 3.0)
    numbers = torch.arange(4)[rows].view(len(people), -1)
    parts = []
    for mine in numbers:
        parts.append((latents[mine], told[mine]))
        if negative is not None:
            parts.insert(-1, (latents[mine], negative[torch.zeros(len(mine), dtype=torch.long)]))
    samples, conditioning = torch.cat([p[0] for p in parts]), Conditioning.cat([p[1] for p in parts])
    times = torch.full((len(samples),), 400.0)
    output, policy.matrices = policy.denoise_together(people, samples.to(policy.dtype), times, conditioning, 3.0)
    return output.float()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_row_goes_through_its_own_persons_adapter_and_gradients_reach_that_alone(
    folders: dict[str, Path], family: str
) -> None:
    policy: Any = policy_for(reloaded(folders[family]), 32, 64)
    policy.encode_options = CALL_OPTIONS.get(family, {})
    policy.denoiser.enable_gradient_checkpointing()
    policy.denoiser.train()  # where checkpoints count
    ada, ben = adapters(policy)
    both = guided_call(policy, slice(0, 4), [ada, ben])
    policy.backward(both.square().sum())
    together = [adapter.weights.grad for adapter in (ada, ben)]
    for adapter in (ada, ben):
        adapter.weights.grad = None
    alone = []
    for rows, adapter in ((slice(0, 2), ada), (slice(2, 4), ben)):
        alone.append(guided_call(policy, rows, [adapter]))
        policy.backward(alone[-1].square().sum())
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-5, rtol=1e-5)
    for gradient, adapter in zip(together, (ada, ben)):
        assert gradient is not None
        assert adapter.weights.grad is not None
        assert float((gradient - adapter.weights.grad).norm()) < 1e-5 * float(gradient.norm())
    assert float((guided_call(policy, slice(0, 2), [ben]) - alone[0]).detach().abs().max()) > 1e-4


def test_nobodys_rows_are_the_base_models_and_off_it_is_the_base_bit_for_bit(policy: Policy) -> None:
    ada = adapters(policy, 1)[0]
    with torch.no_grad():
        base, mixed = guided_call(policy, slice(0, 4), [None, None]), guided_call(policy, slice(0, 4), [ada, None])
        assert torch.equal(guided_call(policy, slice(0, 4), [None, None]), base)
    half = len(base) // 2
    torch.testing.assert_close(mixed[half:], base[half:], atol=0, rtol=0)
    assert float((mixed[:half] - base[:half]).abs().max()) > 0.01


def test_it_starts_as_pefts_adapter_and_computes_the_same(policy: Policy, tmp_path: Path) -> None:
    (weights,) = add_adapter(policy, "ada", SETTINGS, seed=5)
    other = load_pipeline("world").unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        other.add_adapter(
            LoraConfig(r=2, lora_alpha=3, target_modules=list(policy.lora_target_modules), init_lora_weights="gaussian")
        )
    theirs, ours = get_peft_model_state_dict(other), policy.adapters["ada"].state()
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    torch.nn.init.normal_(weights, std=0.1)
    save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    loaded = policy_for(load_adapter(load_pipeline("world"), tmp_path, "ada"))
    latents, told = policy.initial_latents([torch.Generator()] * 4), policy.encode(PROMPTS)
    asked = (latents, torch.full((4,), 300.0), told, None, 1.0)
    torch.testing.assert_close(policy.predict(*asked), loaded.predict(*asked), atol=1e-5, rtol=1e-5)


def test_people_of_different_rank_are_refused(policy: Policy) -> None:
    wide = policy.bank.fresh(LoraSettings(rank=4), 0, policy.device)
    with pytest.raises(AdapterError, match="need adapters of one rank, but theirs are 2, 4"):
        policy.bank.stack([adapters(policy, 1)[0], wide], torch.float32)


def test_layers_that_are_not_linear_or_not_there_are_refused() -> None:
    denoiser = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(1, 1, 1), "lin": torch.nn.Linear(1, 1)})
    with pytest.raises(ConfigError, match=r"layers conv: some are Conv2d; .* must name linear layers"):
        AdapterBank.of(denoiser, ["conv"])
    with pytest.raises(ConfigError, match="layers to_q: it has none of that name"):
        AdapterBank.of(denoiser, ["to_q"])
    assert AdapterBank.of(denoiser, ["lin"]).size(3) == 6


def test_an_adapter_from_a_file_is_not_trained_over(policy: Policy, tmp_path: Path) -> None:
    add_adapter(policy, "ada", SETTINGS, seed=0)
    save_adapter(policy, "ada", "ada", tmp_path, {}, {})
    load_adapter(policy.pipeline, tmp_path, "ada")
    with pytest.raises(AdapterError, match=r"unet \(ada\) has a LoRA on it.*pipe.unload_lora_weights.*pipe.fuse_lora"):
        add_adapter(policy, "ben", SETTINGS, seed=0)
    policy.pipeline.unload_lora_weights()
    add_adapter(policy, "ben", SETTINGS, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_another_person_does_not_compile_a_compiled_denoiser_again(folders: dict[str, Path]) -> None:
    policy: Any = policy_for(reloaded(folders["FluxPipeline"]), 32, 64)
    policy.encode_options = CALL_OPTIONS.get("FluxPipeline", {})
    torch._dynamo.reset()
    compile_denoiser(policy, "blocks", backend="aot_eager")
    plain = guided_call(policy, slice(0, 4), adapters(policy))
    counted = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert counted > 0
    for seed in range(3, 12):
        ada, ben = (policy.bank.fresh(SETTINGS, seed + person, policy.device) for person in (0, 1))
        policy.backward(guided_call(policy, slice(0, 4), [ada, ben]).square().sum())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == counted
    assert plain.isfinite().all()
