"""The memory that a run's plan expects, for models of the published sizes under each preset of recipes/configs/memory.

python benchmarks/memory_plan.py                       # planned, on tensors without data: any size, anywhere
python benchmarks/memory_plan.py --measure sd15 --side 256    # one iteration on the CPU: planned beside the process's peak
"""

from __future__ import annotations

import argparse
import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from diffusers.utils import logging
from real_models import MODELS, Model
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.loading import prepare_policy
from pamela_rl.diffusion.memory import peak_memory
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.training.memory_plan import size_text
from pamela_rl.training.plan import plan_run
from pamela_rl.types import Conditioning, RewardOutput

PRESETS = Path(__file__).parents[1] / "recipes" / "configs" / "memory"
PROMPT = "an image"


def text_encoders(key: str) -> dict[str, torch.nn.Module]:
    """A model's text encoders at full size, without data."""
    clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    large = CLIPTextConfig(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20)
    t5 = T5Config(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")
    with torch.device("meta"):
        first = CLIPTextModel(clip)
        if key == "sd15":
            return {"text_encoder": first}
        if key == "sdxl":
            return {"text_encoder": first, "text_encoder_2": CLIPTextModelWithProjection(large)}
        if key == "flux":
            return {"text_encoder": first, "text_encoder_2": T5EncoderModel(t5)}
        second = CLIPTextModelWithProjection(large)
        return {"text_encoder": first, "text_encoder_2": second, "text_encoder_3": T5EncoderModel(t5)}


def policy_of(model: Model, settings: ModelSettings, device: str, encoders: dict[str, torch.nn.Module]) -> Policy:
    """Build a model with random weights, or none on ``meta``, and what its text encoders would say."""
    dtype = getattr(torch, settings.dtype)
    with torch.device(device):
        pipeline = model.build(False)
    pipeline.register_modules(**encoders)
    pipeline.to(dtype=dtype)
    policy = prepare_policy(pipeline, replace(settings, offload=False), device)
    policy.offload = settings.offload
    for negative in (False, True):
        rows = {n: torch.zeros(1, *shape, dtype=dtype) for n, shape in model.embeds.items()}
        policy.cache_prompt("" if negative else PROMPT, Conditioning(rows), negative)
    return policy


def run_config(model: Model, batch_size: int) -> TrainConfig:
    """The field's settings for each model, as recipes/configs has them, for a small iteration."""
    sampling = SamplingConfig(
        num_inference_steps=10, train_steps=5, guidance_scale=model.guidance_scale, window_size=9, eta=0.7
    )
    return TrainConfig(
        images_per_iteration=16, group_size=8, batch_size=batch_size, sampling=sampling, lora=LoraSettings(32, 64)
    )


def planned() -> None:
    """Print a row a model and preset."""
    print("model          side  preset  images a call   base  adapter  trajectory  working    total")
    for key, model in MODELS.items():
        for preset in ("8gb", "16gb", "24gb"):
            overlay: dict[str, Any] = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"))
            settings = ModelSettings(height=model.side, width=model.side, **overlay["model"])
            policy = policy_of(model, settings, "meta", text_encoders(key))
            config = run_config(model, overlay["train"]["batch_size"])
            memory = plan_run(policy, config, DDPO(kl_weight=0.04), 1).memory
            parts = (memory.base, memory.adapter, memory.trajectory, memory.working or 0, memory.total)
            figures = "  ".join(f"{size_text(part):>8s}" for part in parts)
            print(f"{model.title:13s} {model.side:5d}  {preset:>6s}  {config.batch_size:13d}  {figures}", flush=True)


def brightness(images: torch.Tensor, prompts: Any, user_ids: Any) -> RewardOutput:
    """A reward without weights."""
    return RewardOutput(images.mean(dim=(1, 2, 3)))


def measured(key: str, side: int, batch_size: int) -> None:
    """Run an iteration on the CPU, and print as JSON what was planned and what the process took beyond its start."""
    model = MODELS[key]
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    settings = ModelSettings(height=side, width=side)
    policy = policy_of(model, settings, "cpu", {})
    config = replace(
        run_config(model, batch_size), images_per_iteration=batch_size, group_size=batch_size,
        sampling=SamplingConfig(num_inference_steps=3, train_steps=1, guidance_scale=model.guidance_scale),
    )  # fmt: skip
    algorithm = DDPO(num_updates=1, kl_weight=0.04)
    expected = plan_run(policy, config, algorithm, 1).memory.total
    accelerator = Accelerator(cpu=True)
    weights = add_adapter(policy, "benchmark", config.lora, 0)
    optimizer = torch.optim.AdamW(weights, lr=1e-6)
    batch = PromptSource([PROMPT], "nobody").draw(0, 1, batch_size, 0)
    drawn = rollout(policy, batch, config.sampling, 0, 0, batch_size)
    experience = Experience(0, batch, config.sampling, drawn, torch.randn(batch_size), torch.ones(batch_size))
    algorithm.update(Learner(accelerator, policy, optimizer, config, brightness), experience)
    taken = peak_memory(torch.device("cpu")) - start
    facts = {"model": model.title, "side": side, "batch_size": batch_size, "planned": expected, "peak": taken}
    print(json.dumps({**facts, "ratio": round(expected / taken, 3)}))


def main() -> None:
    """Plan, or measure one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=list(MODELS), help="run an iteration of this model on the CPU")
    parser.add_argument("--side", type=int, default=256, help="pixels, with --measure")
    parser.add_argument("--batch_size", type=int, default=2, help="images a call, with --measure")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    if arguments.measure:
        measured(arguments.measure, arguments.side, arguments.batch_size)
    else:
        planned()


if __name__ == "__main__":
    main()
