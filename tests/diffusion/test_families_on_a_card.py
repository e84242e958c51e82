"""Every family's contract in half precision, on the CPU and, where it is asked for (``-m gpu``), on a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from learning import learn
from peft.utils import get_peft_model_state_dict
from tiny_pipelines import BUILDERS, CALL_OPTIONS, reloaded, saved

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.diffusion.adapter_bank import with_effect
from pamela_rl.diffusion.adapters import adapter_state, add_adapter, save_adapter
from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.types import PromptBatch

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
PROMPTS = ("a boat", "a tree", "a house by the sea", "a boat")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", BUILDERS)
def test_a_family_is_trained_in_half_precision_and_its_adapter_loads_back(
    family: str, device: str, tmp_path: Path
) -> None:
    folder = saved(family, tmp_path / "base")
    settings = ModelSettings(height=32, width=64, dtype="bfloat16", offload=True)
    policy: Any = prepare_policy(reloaded(folder, torch.bfloat16), settings, device)
    policy.encode_options = CALL_OPTIONS.get(family, {})
    weights = add_adapter(policy, "ada", LoraSettings(rank=2, alpha=4), seed=0)
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.1)
    sampling = SamplingConfig(num_inference_steps=4, train_steps=2, guidance_scale=3.0, eta=0.7)
    config = TrainConfig(images_per_iteration=4, group_size=4, batch_size=2, sampling=sampling)
    ids = torch.arange(4)
    batch = PromptBatch(PROMPTS, ("u",) * 4, ids, ids)
    drawn = rollout(policy, batch, sampling, 0, 0, 2)
    assert drawn.images.isfinite().all()
    assert drawn.latents.dtype == torch.float32
    algorithm = DDPO(num_updates=1)
    optimizer = torch.optim.SGD(weights, lr=1e-3)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0], device=policy.device)
    stats = learn(algorithm, Accelerator(cpu=device == "cpu"), policy, optimizer, drawn, advantages, config)
    assert stats["train/sampling_mismatch"] <= algorithm.ratio_tolerance
    assert stats["train/grad_norm"] > 0
    adapter = save_adapter(policy, "ada", "ada", tmp_path, {"seed": "0"}, {})
    fresh = reloaded(folder, torch.bfloat16).to(device)
    fresh.load_lora_weights(adapter, adapter_name="hers")
    denoiser = getattr(fresh, policy.component)
    theirs = get_peft_model_state_dict(denoiser, adapter_name="hers")
    ours = with_effect(adapter_state(policy, "ada"), 4 / 2)  # a file holds alpha / rank in its matrices
    assert theirs.keys() == ours.keys()
    for name, weight in theirs.items():  # the pipeline takes the adapter in its own precision
        assert torch.equal(weight.cpu(), ours[name].to(torch.bfloat16)), name
    drawing = (2, 1.0, 2, 32, 64, "", CALL_OPTIONS.get(family, {}))
    assert PipelineGenerator(fresh, "hers", *drawing)(PROMPTS[:2], [3, 4]).isfinite().all()


@pytest.mark.gpu
def test_captured_calls_compute_what_calls_compute() -> None:
    policies = [
        prepare_policy(load_pipeline("world"), ModelSettings(cuda_graphs=on), torch.device("cuda"))
        for on in (False, True)
    ]
    sampling = SamplingConfig(num_inference_steps=4, train_steps=2, guidance_scale=3.0)
    config = TrainConfig(images_per_iteration=4, group_size=4, batch_size=2, sampling=sampling)
    ids, seen = torch.arange(4), []
    for policy in policies:
        weights = add_adapter(policy, "ada", LoraSettings(rank=2, alpha=4), seed=0)
        optimizer = torch.optim.SGD(weights, lr=1e-2)
        for iteration in range(2):  # the second one replays
            batch = PromptBatch(PROMPTS, ("u",) * 4, ids, ids)
            drawn = rollout(policy, batch, sampling, 0, iteration, 2)
            advantages = torch.tensor([1.0, -1.0, 1.0, -1.0], device=policy.device)
            learn(DDPO(num_updates=1, kl_weight=0.1), Accelerator(), policy, optimizer, drawn, advantages, config)
        seen.append((drawn.final_latents, weights[0].detach()))
    assert torch.equal(seen[0][0], seen[1][0])
    torch.testing.assert_close(seen[0][1], seen[1][1], atol=1e-6, rtol=1e-4)
