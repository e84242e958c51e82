"""Opens a pipeline whole and cut over two processes, and compares what both compute; run by test_processes.py."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.config import LoraSettings
from pamela_rl.diffusion.policy import Policy, adapter_off
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.training.processes import open_policy


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    settings = ModelSettings(name=str(folder), height=32, width=32, gradient_checkpointing=True)
    whole, cut = (open_policy(replace(settings, shard=shard), accelerator) for shard in (False, True))
    weights = dict(cut.denoiser.named_parameters())
    for name, weight in whole.denoiser.named_parameters():
        assert torch.equal(weights[name].full_tensor(), weight), name
    for mine, others in zip(computed(cut), computed(whole), strict=True):
        torch.testing.assert_close(mine, others)
    accelerator.end_training()


def computed(policy: Policy) -> list[Tensor]:
    """Draw with the pipeline's own call; take two steps that gradients pass through, and one without the adapter."""
    noise = torch.Generator().manual_seed(1)
    drawn = policy.pipeline("a boat", num_inference_steps=2, height=32, width=32, output_type="pt", generator=noise)
    policy.adapter = policy.bank.fresh(LoraSettings(), 0, policy.device)
    policy.adapter.weights.data += 0.05 * torch.randn(policy.adapter.weights.shape, generator=noise)
    latents, conditioning = policy.initial_latents([noise, noise]), policy.encode(["a boat", "a tree"])
    times = torch.full((2,), 500.0)
    first = policy.predict(latents, times, conditioning, None, 1.0)
    second = policy.predict(latents - 0.1 * first, times, conditioning, None, 1.0)
    with torch.no_grad(), adapter_off(policy):
        base = policy.predict(latents, times, conditioning, None, 1.0)
    policy.backward((second - base).square().mean())
    assert policy.adapter.weights.grad is not None
    return [drawn.images, first.detach(), second.detach(), base, policy.adapter.weights.grad]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
