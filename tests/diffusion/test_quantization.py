from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from test_lora_settings import DROPPING
from tiny_pipelines import reloaded, saved
from torch import nn

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.config import LoraSettings, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter, save_adapter
from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
from pamela_rl.diffusion.memory import update_bytes
from pamela_rl.diffusion.quantization import NF4, QuantizedLinear, quantize_denoiser
from pamela_rl.diffusion.settings import ModelSettings, Quantization
from pamela_rl.errors import ConfigError
from pamela_rl.storage import read_metrics
from pamela_rl.training.loop import train
from pamela_rl.training.memory_plan import module_bytes
from pamela_rl.types import RewardOutput

KINDS = [pytest.param("int8", marks=pytest.mark.slow), "nf4"]


@pytest.mark.parametrize(("kind", "bits", "error"), [("int8", 8.3, 0.005), ("nf4", 4.6, 0.1)])
def test_a_layer_keeps_few_bits_and_nearly_its_weight(kind: Quantization, bits: float, error: float) -> None:
    layer = nn.Linear(130, 96)
    weight, inputs = layer.weight.detach().clone(), torch.randn(3, 130, requires_grad=True)
    QuantizedLinear.replace(layer, kind)
    assert isinstance(layer, QuantizedLinear)
    kept = sum(part.numel() * part.element_size() for name, part in layer.named_parameters() if name != "bias")
    assert 8 * kept / weight.numel() < bits
    assert float((layer.weight - weight).norm() / weight.norm()) < error
    output = layer(inputs)
    torch.testing.assert_close(output, nn.functional.linear(inputs, layer.weight, layer.bias))
    (gradient,) = torch.autograd.grad(output.square().sum(), inputs)
    torch.testing.assert_close(gradient, (2 * output @ layer.weight).detach())


def test_nf4_takes_the_nearest_of_its_levels() -> None:
    layer = nn.Linear(64, 2, bias=False)
    layer.weight.data = torch.randn(2, 64)
    scaled = layer.weight.detach() / layer.weight.detach().abs().amax(dim=1, keepdim=True)
    nearest = torch.tensor(NF4)[(scaled.unsqueeze(-1) - torch.tensor(NF4)).abs().argmin(dim=-1)]
    scale = layer.weight.detach().abs().amax(dim=1, keepdim=True)
    QuantizedLinear.replace(layer, "nf4")
    torch.testing.assert_close(layer.weight, nearest * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_base_trains_and_its_adapter_loads_with_diffusers(
    kind: Quantization, accelerator: Accelerator, tmp_path: Path
) -> None:
    model = ModelSettings("world", quantization=kind, height=32, width=32)
    full = load_pipeline("world")
    policy = prepare_policy(load_pipeline("world"), model, "cpu")
    assert module_bytes([policy.denoiser]) < 0.9 * 4 * sum(weight.numel() for weight in full.unet.parameters())
    assert policy.dtype == torch.float32
    config = replace(DROPPING, num_iterations=2, lora=LoraSettings(2), validation=TrainConfig().validation)
    config = replace(config, validation=replace(config.validation, every=0), sampling=replace(config.sampling, eta=1.0))

    def darkness(images: torch.Tensor, prompts: object, user_ids: object) -> RewardOutput:
        return RewardOutput(-images.mean(dim=(1, 2, 3)))

    assert update_bytes(policy, config, 1, False, True) is not None
    prompts = PromptSource(["a boat", "a tree"], "ada")
    train(policy, darkness, prompts, config, DDPO(num_updates=1), tmp_path, accelerator)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0]["train/grad_norm"] > 0
    assert rows[0]["train/sampling_mismatch"] == 0
    save_adapter(policy, "ada", "ada", tmp_path, {}, {})  # loads it back and compares


def test_every_kind_of_layer_in_a_transformers_blocks_is_quantized(tmp_path: Path) -> None:
    policy = prepare_policy(
        reloaded(saved("FluxPipeline", tmp_path)), ModelSettings(quantization="nf4", height=32, width=64), "cpu"
    )
    left = [name for name, layer in policy.denoiser.named_modules() if type(layer) is nn.Linear]
    assert left
    assert not any("block" in name for name in left)
    (weights,) = add_adapter(policy, "ada", LoraSettings(2), 0)
    told = policy.encode(["a boat"])
    output = policy.predict(
        policy.initial_latents([torch.Generator()]), torch.full((1,), 500.0), told, None, 3.5
    ).square()
    policy.backward(output.sum())
    assert weights.grad is not None
    assert weights.grad.isfinite().all()
    save_adapter(policy, "ada", "ada", tmp_path / "run", {}, {})


def test_a_denoiser_without_blocks_and_a_sharded_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="has no blocks with linear layers; leave it at no"):
        quantize_denoiser(nn.ModuleDict({"a": nn.Linear(2, 2)}), "nf4")
    with pytest.raises(ConfigError, match=r"model.quantization and model.shard are set"):
        ModelSettings(quantization="int8", shard=True)
