"""Many people on one base model, together against one after another: calls, whole iterations, and memory a person.

python benchmarks/many_people.py                          # the world's UNet and one of 15 M weights, on a CPU
python benchmarks/many_people.py --models sd15 --people 2 4 8 16 --images 1 2 4      # real sizes, random weights, on a card
python benchmarks/many_people.py --what iterations memory

"Together" is one call for everybody, each slot its own adapter; "after another" the same rows in a call a person. Both are
measured in turn in one process, the best of some; what counts is their ratio. Memory is that of the process, or of the card,
after people were seated and trained once, against base plus each person's adapter, gradient, optimizer and copy.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from real_models import MODELS
from torch import Tensor
from tqdm.auto import tqdm

from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapter_bank import Adapter
from pamela_rl.diffusion.company import Company, Seat
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.training.loop import train
from pamela_rl.types import Conditioning, RewardOutput

PROMPT = "a picture"


def build(model: str, device: torch.device) -> tuple[Policy, torch.dtype, float]:
    """Make a policy: the world's, the world's with a wider UNet, or a real size with random weights."""
    if model in ("world", "15m"):
        pipeline = load_pipeline("world")
        if model == "15m":
            torch.manual_seed(0)
            wide = dict(pipeline.unet.config) | {"block_out_channels": (144, 288)}
            pipeline.register_modules(unet=UNet2DConditionModel.from_config(wide))
        policy = policy_for(pipeline)
        pipeline.to(device)
        return policy, torch.float32, 1.0
    known = MODELS[model]
    with torch.device(device):
        pipeline = known.build(False).to(dtype=torch.bfloat16)
    settings = ModelSettings(dtype="bfloat16", height=known.side, width=known.side)
    policy = prepare_policy(pipeline, settings, device)
    for prompt, negative in ((PROMPT, False), ("", True)):
        told = Conditioning({n: torch.randn(1, *shape, dtype=torch.bfloat16) for n, shape in known.embeds.items()})
        policy.cache_prompt(prompt, told, negative)
    return policy, torch.bfloat16, known.guidance_scale


def brightness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """A reward that costs nothing."""
    return RewardOutput(images.mean(dim=(1, 2, 3)))


def clock(device: torch.device) -> float:
    """The time when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def in_turn(device: torch.device, first: Callable[[], None], second: Callable[[], None], times: int) -> float:
    """Return how much longer the second takes than the first, each the best of some."""
    best = [float("inf"), float("inf")]
    for number in range(times + 1):  # the first warms up
        for row, work in enumerate((first, second)):
            started = clock(device)
            work()
            best[row] = min(best[row], clock(device) - started) if number else best[row]
    return best[1] / best[0]


def calls(policy: Policy, scale: float, num_people: int, images: int, times: int, rank: int) -> float:
    """Compare a denoiser forward and backward of everybody together with one after another."""
    adapters = [policy.bank.fresh(LoraSettings(rank, rank), seed, policy.device) for seed in range(num_people)]
    told, negative = policy.encode([PROMPT] * images), policy.encode_negative("", scale)
    rows = images * (1 if negative is None else 2)
    if negative is not None:
        told = Conditioning.cat([negative[torch.zeros(images, dtype=torch.long, device=policy.device)], told])
    told = told.to(policy.dtype)
    latents = policy.initial_latents([torch.Generator().manual_seed(seed) for seed in range(rows)]).to(policy.dtype)
    step = torch.full((rows,), 500.0, device=policy.device)

    def call(people: Sequence[Adapter]) -> None:
        count = len(people)
        conditioning = Conditioning.cat([told] * count)
        output, policy.matrices = policy.denoise_together(
            people, torch.cat([latents] * count), torch.cat([step] * count), conditioning, scale
        )
        policy.backward(output.float().square().mean())

    def one_by_one() -> None:
        for adapter in adapters:
            call([adapter])

    return in_turn(policy.device, partial(call, adapters), one_by_one, times)


def train_people(policy: Policy, scale: float, slots: int, num_people: int, images: int, iterations: int) -> None:
    """Train so many people's adapters, ``slots`` at a time, without publishing them."""
    config = TrainConfig(
        num_iterations=iterations, images_per_iteration=images, group_size=images, batch_size=images,
        checkpoint_every=1000, sampling=SamplingConfig(num_inference_steps=10, train_steps=5, guidance_scale=scale),
        lora=LoraSettings(8, 8), validation=ValidationSettings(every=0),
    )  # fmt: skip
    left, accelerator = list(range(num_people)), Accelerator(cpu=policy.device.type == "cpu")
    with tempfile.TemporaryDirectory() as folder, tqdm(disable=True) as bar:

        def next_work(seat: Seat) -> Callable[[], None] | None:
            return partial(work, seat, left.pop(0)) if left else None

        def work(seat: Seat, number: int) -> None:
            source = PromptSource([PROMPT], f"person-{number}")
            run = Path(folder) / str(number)
            train(policy.seated(seat), brightness, source, config, NFT(), run, accelerator, bar=bar)

        Company(slots).run(next_work, lambda: None)


def taken(device: torch.device) -> int:
    """Bytes that live on the card, or that the process has."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    fields = Path("/proc/self/statm").read_text(encoding="utf-8").split()  # of Linux alone
    return int(fields[1]) * 4096


def memory(policy: Policy, people: int, rank: int) -> tuple[float, float]:
    """Return the bytes a further person takes, with optimizer and old copy, and those of these tensors."""
    kept: list[object] = []

    def seat_one(seed: int) -> int:
        adapter = policy.bank.fresh(LoraSettings(rank, rank), seed, policy.device)
        optimizer = torch.optim.AdamW([adapter.weights], lr=1e-6)
        adapter.weights.grad = torch.randn_like(adapter.weights)
        optimizer.step()
        kept.append((adapter, optimizer, adapter.weights.detach().clone()))
        return adapter.weights.numel()

    size = seat_one(0)
    before = taken(policy.device)
    for seed in range(1, people):
        seat_one(seed)
    return (taken(policy.device) - before) / (people - 1), 4 * size * 5  # weights, gradient, two moments, copy


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["world", "15m"], choices=["world", "15m", *MODELS])
    parser.add_argument("--people", nargs="*", type=int, default=[2, 4, 8, 16, 64])
    parser.add_argument("--images", nargs="*", type=int, default=[1, 4, 12], help="a person and call")
    parser.add_argument("--what", nargs="*", default=["calls", "iterations", "memory"])
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in given.models:
        policy, dtype, scale = build(name, device)
        weights = sum(weight.numel() for weight in policy.denoiser.parameters())
        print(
            f"{name}: {weights / 1e6:.1f} M weights, {policy.height} px, {dtype}, {device}, {torch.get_num_threads()} threads"
        )
        if "calls" in given.what:
            print(
                "one after another over together, denoiser forward and backward; columns: images a person", flush=True
            )
            print("people " + " ".join(f"{images:>6d}" for images in given.images))
            for people in given.people:
                ratios = [calls(policy, scale, people, images, given.times, 8) for images in given.images]
                print(f"{people:6d} " + " ".join(f"{ratio:6.2f}" for ratio in ratios), flush=True)
        if "iterations" in given.what:
            for people in [count for count in given.people if count <= 16]:
                for images in given.images:
                    if images < 2:
                        continue  # a group of one teaches nothing
                    ratio = in_turn(
                        device,
                        partial(train_people, policy, scale, people, people, images, given.iterations),
                        partial(train_people, policy, scale, 1, people, images, given.iterations),
                        1,
                    )
                    print(f"{people} people x {images} images, {given.iterations} iterations: {ratio:.2f}", flush=True)
        if "memory" in given.what:
            measured, tensors = memory(policy, 64, 64)
            print(f"a further person of rank 64: {measured / 1e6:.2f} MB, their tensors {tensors / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
