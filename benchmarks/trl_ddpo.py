"""TRL 0.23.1's ``DDPOTrainer``, the last release's that trains diffusion models, on pipelines that are already in memory.

It is no dependency, since the package needs a later TRL, which has lost this trainer; pip unpacks it into a folder, which
benchmarks take as ``--trl``. One fault is mended here: without guidance it gives the denoiser the negative prompt all the same,
and fails.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState
from diffusers import DDIMScheduler
from diffusers.utils.logging import set_verbosity_error
from peft import LoraConfig
from torch import Tensor

VERSION = "0.23.1"
HOW_TO_GET = f"TRL is left out; get it with: pip install --no-deps --target DIR trl=={VERSION}   and give --trl DIR"
NOISE = {  # of SD 1.5; with DDIMScheduler's defaults, TRL's density of the last step is not a number
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
ADAPTER = "default"  # the name that PEFT gives an adapter without one


def open_trainer(
    folder: Path,
    pipeline: Any,
    rank: int,
    settings: Mapping[str, Any],
    score: Callable[[Tensor, Sequence[str]], Tensor],
    prompts: Iterator[str],
    device: torch.device,
) -> Any:
    """Make a ``DDPOTrainer`` whose ``step(epoch, step)`` samples, scores and learns once.

    Args:
        folder: That pip unpacked TRL into.
        pipeline: A ``StableDiffusionPipeline``; the trainer puts a LoRA on its denoiser.
        rank: Of that LoRA; TRL's own is always 4.
        settings: Of ``DDPOConfig``, where they differ from its defaults.
        score: Maps images in [0, 1] and their prompts to rewards, ``(b,)``.
        prompts: Of the images, in the order in which they are sampled.
        device: Where it trains.
    """
    _import(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl import DDPOConfig, DDPOTrainer, DefaultDDPOStableDiffusionPipeline

    class Held(DefaultDDPOStableDiffusionPipeline):  # its own __init__ loads from a folder or the hub
        def __init__(self) -> None:
            self.sd_pipeline, self.use_lora = pipeline, True
            pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
            for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
                part.requires_grad_(False)
            encode = pipeline._encode_prompt

            def encode_prompt(prompt: None, device: Any, count: int, guided: bool, *rest: Any, **named: Any) -> Tensor:
                return encode(prompt, device, count, guided, *rest, **named) if guided else named["prompt_embeds"]

            pipeline._encode_prompt = encode_prompt

        def get_trainable_layers(self) -> Any:
            """Put on the LoRA as TRL does, but of any rank."""
            targets = ["to_k", "to_q", "to_v", "to_out.0"]
            pipeline.unet.add_adapter(
                LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets)
            )
            for weight in pipeline.unet.parameters():
                if weight.requires_grad:
                    weight.data = weight.float()
            return pipeline.unet

    def reward(images: Tensor, asked: Sequence[str], metadata: Any) -> tuple[Tensor, Any]:
        with torch.no_grad():
            return score(images, asked), metadata

    on_cpu = device.type == "cpu"
    PartialState(cpu=on_cpu)  # TRL logs before it has an accelerator
    if "mixed_precision" in settings:  # another Accelerator of this process keeps the precision that it was made with
        AcceleratorState._reset_state()
    common = {
        "mixed_precision": "no", "log_with": None, "save_freq": 10**9,
        "accelerator_kwargs": {"cpu": True} if on_cpu else {},
    }  # fmt: skip
    pipeline.to(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        trainer = DDPOTrainer(DDPOConfig(**common | dict(settings)), reward, lambda: (next(prompts), {}), Held())
    trainer.sd_pipeline.set_progress_bar_config(disable=True)
    return trainer


def timed(trainer: Any, parts: Sequence[str], clock: Callable[[], float]) -> dict[str, float]:
    """Measure the seconds of the last call of some of a trainer's methods, by name."""
    seconds = dict.fromkeys(parts, 0.0)

    def measured(name: str, own: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        started = clock()
        result = own(*arguments, **named)
        seconds[name] = clock() - started
        return result

    for name in parts:
        setattr(trainer, name, partial(measured, name, getattr(trainer, name)))
    return seconds


def in_groups(prompts: Sequence[str], group_size: int, seed: int) -> Iterator[str]:
    """Yield prompts in random order without end, each ``group_size`` times in a row."""
    rng = np.random.default_rng(seed)
    while True:
        for row in rng.permutation(len(prompts)):
            for _ in range(group_size):
                yield prompts[row]


def _import(folder: Path) -> None:
    """Make sure that ``trl`` is the one in ``folder``."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    logging.getLogger("trl").setLevel(logging.ERROR)
    set_verbosity_error()  # of diffusers: casting to the dtype that a model has is no inconsistency
    import trl

    if trl.__version__ != VERSION:
        raise SystemExit(f"--trl {folder}: {trl.__file__} is TRL {trl.__version__}, not {VERSION}. {HOW_TO_GET}")
