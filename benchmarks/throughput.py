"""One iteration of real-size models with random weights: speed, memory, and share of what the device can do.

python benchmarks/throughput.py                       # DDPO; SD 1.5, SDXL, SD3.5-medium, FLUX.1, on a GPU, in bf16
python benchmarks/throughput.py --small               # the same classes and code, small, anywhere
python benchmarks/throughput.py --models sd15 sdxl --images 16 --batch_size 8
python benchmarks/throughput.py --models sd15 sd35 --algorithms ddpo ddpo_sf nft draft grpo
python benchmarks/throughput.py --models sd15 --compile full --batch_size 8 --sampling_batch_size 16 --steps 30 --rank 4

Prompts' embeddings are random too, since text encoders run once a prompt and not once a picture; the reward is the mean of
a picture's values, which costs nothing. FLOPs are those of matrix products, attention and convolutions, counted by torch's
own counter in one forward and one forward and backward of the denoiser and one decoding; an iteration's are those times the
calls its plan counts, and beside the memory it took stands what the plan expects. The device's rate is that of a large bf16
matrix product, measured in the same run.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.utils import logging
from real_models import MODELS, Model
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.learner import AdapterCopy, Experience, Learner
from pamela_rl.algorithms.registry import open_algorithm
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.loading import prepare_policy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.training.plan import plan_run
from pamela_rl.types import Conditioning, PromptBatch, RewardOutput

PROMPTS = ["an image", "a tree"]  # the first is what the plan asks about


def brightness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """A reward of no cost, for algorithms that take its gradient."""
    return RewardOutput(images.mean(dim=(1, 2, 3)))


def matrix_rate(device: torch.device, size: int) -> float:
    """Measure the FLOPs a second of a square bf16 matrix product, the best of some."""
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(8):
        started = clock(device)
        left @ right
        best = min(best, clock(device) - started)
    return 2 * size**3 / best


def clock(device: torch.device) -> float:
    """The time when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def flops(policy: Policy, model: Model) -> tuple[float, float, float]:
    """Count one picture's denoiser forward, forward and backward, and decoding."""
    told = policy.encode(PROMPTS[:1])
    latents = policy.initial_latents([torch.Generator()])
    time_step = torch.full((1,), 500.0, device=policy.device)
    counts = []
    for part in ("forward", "both", "decode"):
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(part == "both"):
            if part == "decode":
                policy.decode(latents)
            else:
                output = policy.predict(latents, time_step, told, None, model.guidance_scale)
                if part == "both":
                    output.square().mean().backward()
        counts.append(float(counter.get_total_flops()))
        policy.denoiser.zero_grad(set_to_none=True)
    return counts[0], counts[1], counts[2]


def measure(model: Model, name: str, arguments: argparse.Namespace, accelerator: Accelerator, rate: float) -> str:
    """Run one iteration after a warm-up and return a row of the table."""
    device, small = accelerator.device, arguments.small
    side = model.side // 8 if small else model.side
    settings = ModelSettings(
        dtype="bfloat16", height=side, width=side, gradient_checkpointing=arguments.checkpointing, compile=arguments.compile,
        cuda_graphs=arguments.cuda_graphs,
    )  # fmt: skip
    torch.set_default_dtype(torch.bfloat16)  # FLUX.1 in fp32 fills more than half a card
    with torch.device(device):
        pipeline = model.build(small)
    torch.set_default_dtype(torch.float32)
    pipeline.to(dtype=torch.bfloat16)
    policy = prepare_policy(pipeline, settings, device)
    for prompt, negative in (*((prompt, False) for prompt in PROMPTS), ("", True)):
        told = Conditioning({n: torch.randn(1, *shape, dtype=torch.bfloat16) for n, shape in model.embeds.items()})
        policy.cache_prompt(prompt, told, negative)
    steps = arguments.steps or (3 if small else model.steps)
    algorithm = open_algorithm({"name": name, "num_updates": 1, "kl_weight": 0.0, "learning_rate": 1e-6})
    config = TrainConfig(
        images_per_iteration=arguments.images,
        group_size=arguments.images // 2,
        batch_size=arguments.batch_size,
        sampling_batch_size=arguments.sampling_batch_size,
        sampling=SamplingConfig(
            num_inference_steps=steps, train_steps=max(1, steps // 2), guidance_scale=model.guidance_scale,
            eta=0.7 if algorithm.needs_noise else 0.0,
        ),
        lora=LoraSettings(rank=arguments.rank, alpha=arguments.rank),
    )  # fmt: skip
    weights = add_adapter(policy, "benchmark", config.lora, 0)
    optimizer = torch.optim.AdamW(weights, lr=algorithm.learning_rate)
    old = AdapterCopy(policy.adapter) if algorithm.samples_with_old else None
    learner = Learner(accelerator, policy, optimizer, config, brightness, old=old)
    graphs, policy.graphs = policy.graphs, None
    with torch.compiler.set_stance("force_eager"):
        forward, both, decode = flops(policy, model)
    policy.graphs = graphs
    batch = PromptSource(PROMPTS, "nobody").draw(0, 2, config.group_size, 0)
    for warm_up in range(2):  # the second finds everything compiled, and its memory
        iterate(policy, learner, algorithm, batch, warm_up)
    beside(arguments.beside, model.title)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started = clock(device)
    sampling, decoding, stats = iterate(policy, learner, algorithm, batch, 2)
    seconds = clock(device) - started
    plan = plan_run(policy, config, algorithm, 1)
    calls = (plan.sampling_calls + plan.reference_calls) * forward + plan.training_calls * both
    decodings = 3 if algorithm.footprint(config).decodes else 1  # once more to learn from, and back through it
    work = plan.rows_per_call * calls + len(batch) * decodings * decode
    share = f"{work / seconds / rate:.0%}" if device.type == "cuda" else "-"  # CPUs seldom multiply bf16 at their best
    peak = f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB" if device.type == "cuda" else "-"
    row = (
        f"{model.title:13s} {name:8s} {side:5d} {len(batch):6d} {steps:3d}/{algorithm.pairs_per_image(config):<3d} "
        f"{len(batch) / seconds:8.2f} {sampling - decoding:9.2f} {seconds - sampling:8.2f} {decoding:8.2f} {peak:>8s} {plan.memory.total / 1e9:6.1f} GB "
        f"{forward / 1e12:8.3f} {both / 1e12:8.3f} {decode / 1e12:7.3f} {share:>7s} {stats.get('train/sampling_mismatch', 0):9.1e}"
    )
    del policy, pipeline, optimizer, learner
    gc.collect()
    return row


def iterate(
    policy: Policy, learner: Learner, algorithm: Algorithm, batch: PromptBatch, iteration: int
) -> tuple[float, float, dict[str, float]]:
    """Draw and learn; returns the seconds of drawing, and of the decoding in it, and what the update tells."""
    config, device = learner.config, learner.accelerator.device
    started = clock(device)
    with Stopwatch(policy, device) as decoding:
        freed = algorithm.frees_sampling(config)
        drawn = rollout(
            policy, batch, config.sampling, 0, iteration, config.sampled_at_once, algorithm.kept_steps,
            algorithm.keeps_means and not freed, as_trained=not freed,
        )  # fmt: skip
    sampled = clock(device)
    advantages = torch.randn(len(batch), device=device)
    experience = Experience(
        iteration, batch, config.sampling, drawn.without_images(), advantages, torch.ones_like(advantages)
    )
    stats = algorithm.update(learner, experience)
    return sampled - started, decoding.seconds, stats


def beside(others: Sequence[str], title: str) -> None:
    """Wait until all of some models that compile beside each other are ready, then for those before this one in the list."""
    if not others:
        return
    folder, *titles = others
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{title}.ready").touch()
    while not all((place / f"{other}.ready").exists() for other in titles):
        time.sleep(0.1)
    while not all((place / f"{other}.done").exists() for other in titles[: titles.index(title)]):
        time.sleep(0.1)


class Stopwatch:
    """Adds up the seconds a policy spends decoding."""

    def __init__(self, policy: Policy, device: torch.device):
        self.seconds, self._policy, self._own = 0.0, policy, policy.decode

        def timed(latents: torch.Tensor) -> torch.Tensor:
            started = clock(device)
            pictures = self._own(latents)
            self.seconds += clock(device) - started
            return pictures

        self._timed = timed

    def __enter__(self) -> Stopwatch:
        self._policy.decode = self._timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._policy.decode = self._own  # type: ignore[method-assign]


def main() -> None:
    """Print one row a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--algorithms", nargs="*", default=["ddpo"], help="names, as recipes take them")
    parser.add_argument("--small", action="store_true", help="small models of the same classes, few steps")
    parser.add_argument("--images", type=int, default=16, help="pictures an iteration, an even number")
    parser.add_argument("--batch_size", type=int, default=4, help="pictures in one denoiser call")
    parser.add_argument("--sampling_batch_size", type=int, help="pictures in one that samples; as many if not given")
    parser.add_argument(
        "--steps", type=int, help="denoising steps, of which half are trained; the model's usual if not given"
    )
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations twice")
    parser.add_argument("--compile", default="no", choices=["no", "blocks", "full"])
    parser.add_argument("--cuda_graphs", action="store_true", help="launch each call at once")
    parser.add_argument(
        "--beside", nargs="*", default=[], metavar="X",
        help="a folder, and the titles of models whose own processes compile at the same time and are measured in this order",
    )  # fmt: skip
    arguments = parser.parse_args()
    logging.set_verbosity_error()  # casting a random model to bf16 is no inconsistency
    accelerator = Accelerator()
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    rate = matrix_rate(device, 8192 if device.type == "cuda" else 1024)
    print(
        f"{name}: {rate / 1e12:.3g} TFLOP/s in a bf16 matrix product; LoRA rank {arguments.rank}, bf16 base, fp32 adapter"
    )
    print(
        "model         algorithm side images steps images/s  sample s  train s decode s     peak   planned  forward fwd+bwd  decode  share  mismatch"
    )
    for key, name in product(arguments.models, arguments.algorithms):
        print(measure(MODELS[key], name, arguments, accelerator, rate), flush=True)
        if arguments.beside:
            (Path(arguments.beside[0]) / f"{MODELS[key].title}.done").touch()


if __name__ == "__main__":
    main()
