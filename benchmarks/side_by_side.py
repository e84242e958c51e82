"""DDPO iterations side by side: the bare denoiser calls, ours, and TRL 0.23.1's trainer, on the same model and batches.

python benchmarks/side_by_side.py --trl DIR                # on a CPU: the world's UNet widened to 15.8 M weights
python benchmarks/side_by_side.py --trl DIR --real         # on a card: SD 1.5's published size, 512 px, bf16
python benchmarks/side_by_side.py --only bare ours --rounds 3

"bare" makes nothing but the calls that no implementation can do without: guided sampling forwards in one batch, forwards and
backwards through a LoRA, and decodings; no scheduler, no densities, no optimizer. All weights are random, the reward is an
image's mean. After a warm-up, which also compiles, every row runs in turn in one process. Seconds are medians; ratios are
medians over rounds of the ratio within a round. A total also holds the reward, and in TRL's row the batches' reshuffling.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging
from real_models import MODELS
from text_encoders import text_parts
from throughput import brightness, clock
from torch import Tensor, nn
from torch.nn import functional as F
from trl_ddpo import HOW_TO_GET, NOISE, in_groups, open_trainer, timed

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.config import LoraSettings, SamplingConfig, TrainConfig
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.adapters import add_adapter
from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
from pamela_rl.diffusion.rollout import rollout
from pamela_rl.diffusion.settings import ModelSettings

PROMPTS = ["a picture", "a tree"]
LEARNING_RATE = 1e-6  # of every row; large enough to be a real step, too small to lead random weights anywhere
BARE, BARE_COMPILED, OURS, OURS_COMPILED, TRL = ROWS = ("bare", "bare_compiled", "ours", "ours_compiled", "trl")
USUAL = {  # on a CPU, and on a card
    "images": (8, 16), "steps": (10, 30), "trained": (5, 15), "sample_batch": (8, 8), "train_batch": (4, 8), "rank": (4, 4),
    "guidance": (5, 5),
}  # fmt: skip
Iterate = Callable[[], tuple[float, float]]  # returns the seconds of sampling and of training
Round = dict[str, dict[str, float]]  # of every row the seconds, by part


@dataclass(frozen=True)
class Work:
    """What every row does in an iteration.

    Attributes:
        real: SD 1.5's size in bf16; else the world's, widened, in fp32.
        images: To sample and learn from.
        steps: Denoising steps of each.
        trained: Of these, learned from.
        sample_batch: Images in a sampling call, each of two rows, and in a decoding.
        train_batch: Images in a training call, each of two rows.
        rank: Of the LoRA, and its alpha.
        guidance: Scale of classifier-free guidance.
    """

    real: bool
    images: int
    steps: int
    trained: int
    sample_batch: int
    train_batch: int
    rank: int
    guidance: int

    def pipeline(self, device: torch.device) -> Any:
        """Build the model, with small text encoders and the same random weights for every row."""
        torch.manual_seed(0)
        if self.real:
            with torch.device(device):
                pipeline = MODELS["sd15"].build(False)
            pipeline.register_modules(**text_parts("sd15", small=True))
        else:
            pipeline = load_pipeline("world")
            wide = dict(pipeline.unet.config) | {"block_out_channels": (144, 288)}
            pipeline.register_modules(unet=UNet2DConditionModel.from_config(wide))
        pipeline.register_modules(scheduler=DDIMScheduler(**NOISE))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(device, torch.bfloat16 if self.real else torch.float32)


class Lora(nn.Module):
    """A linear layer with a LoRA, as cheap as it can be written; alpha is its rank."""

    def __init__(self, base: nn.Linear, rank: int):
        super().__init__()
        device = base.weight.device
        self.base, self.down = base, nn.Parameter(torch.randn(rank, base.in_features, device=device) / rank)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, rows: Tensor) -> Tensor:
        """Add the LoRA's output to the layer's."""
        return self.base(rows) + F.linear(F.linear(rows, self.down.to(rows.dtype)), self.up.to(rows.dtype))


def put_lora(unet: nn.Module, rank: int) -> None:
    """Put a LoRA on all attention projections, those that ours and TRL train."""
    for name, layer in list(unet.named_modules()):
        if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0")):
            parent, _, last = name.rpartition(".")
            setattr(unet.get_submodule(parent), last, Lora(layer, rank))


def bare(work: Work, device: torch.device, compiled: bool) -> Iterate:
    """Prepare the calls alone."""
    pipeline = work.pipeline(device)
    unet, vae = pipeline.unet.requires_grad_(False), pipeline.vae.requires_grad_(False)
    put_lora(unet, work.rank)
    if compiled:
        unet.compile(dynamic=False)
    place, shape = {"device": device, "dtype": unet.dtype}, (unet.config.in_channels, *[unet.config.sample_size] * 2)

    def inputs(size: int) -> tuple[Tensor, Tensor, Tensor]:
        told = torch.randn(2 * size, pipeline.tokenizer.model_max_length, unet.config.cross_attention_dim, **place)
        return torch.randn(size, *shape, **place), torch.full((2 * size,), 500.0, device=device), told

    def predict(latents: Tensor, timesteps: Tensor, told: Tensor) -> Tensor:
        output = unet(torch.cat([latents, latents]), timesteps, told, return_dict=False)[0].float()
        unconditional, conditional = output.chunk(2)
        return unconditional + work.guidance * (conditional - unconditional)

    to_sample, to_train = inputs(work.sample_batch), inputs(work.train_batch)

    def iterate() -> tuple[float, float]:
        started = clock(device)
        with torch.no_grad():
            for _ in range(work.images // work.sample_batch):
                for _ in range(work.steps):
                    predict(*to_sample)
                vae.decode(to_sample[0] / vae.config.scaling_factor)
        sampled = clock(device)
        for _ in range(work.images * work.trained // work.train_batch):
            predict(*to_train).square().mean().backward()
        unet.zero_grad(set_to_none=True)
        return sampled - started, clock(device) - sampled

    return iterate


def ours(work: Work, device: torch.device, accelerator: Accelerator, compiled: str) -> Iterate:
    """Prepare ``rollout`` and ``DDPO().update``."""
    settings = ModelSettings(dtype="bfloat16" if work.real else "float32", compile=compiled)
    policy = prepare_policy(work.pipeline(device), settings, device)
    config = TrainConfig(
        images_per_iteration=work.images, group_size=work.images // 2, batch_size=work.train_batch,
        sampling=SamplingConfig(work.steps, eta=1.0, guidance_scale=work.guidance, train_steps=work.trained),
        lora=LoraSettings(work.rank, work.rank), sampling_batch_size=work.sample_batch,
    )  # fmt: skip
    algorithm = DDPO(num_updates=1, kl_weight=0.0, learning_rate=LEARNING_RATE)
    weights, freed = add_adapter(policy, "benchmark", config.lora, 0), algorithm.frees_sampling(config)
    learner = Learner(accelerator, policy, torch.optim.AdamW(weights, lr=LEARNING_RATE), config, brightness)
    batch, numbers = PromptSource(PROMPTS, "nobody").draw(0, 2, config.group_size, 0), count()

    def iterate() -> tuple[float, float]:
        started, number = clock(device), next(numbers)
        drawn = rollout(
            policy, batch, config.sampling, 0, number, config.sampled_at_once, algorithm.kept_steps,
            algorithm.keeps_means and not freed, as_trained=not freed,
        )  # fmt: skip
        sampled = clock(device)
        rewards = brightness(drawn.images, batch.prompts, batch.user_ids).mean
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        lived = Experience(number, batch, config.sampling, drawn, advantages, torch.ones_like(advantages))
        algorithm.update(learner, lived)
        return sampled - started, clock(device) - sampled

    return iterate


def theirs(work: Work, device: torch.device, folder: Path) -> Iterate:
    """Prepare ``DDPOTrainer.step``, of which the parts that sample and that train are timed."""
    settings = {
        "sample_num_steps": work.steps, "sample_guidance_scale": work.guidance, "sample_batch_size": work.sample_batch,
        "sample_num_batches_per_epoch": work.images // work.sample_batch, "train_batch_size": work.train_batch,
        "train_gradient_accumulation_steps": work.images // work.train_batch,
        "train_timestep_fraction": (work.trained + 0.5) / work.steps,  # it rounds down
        "train_learning_rate": LEARNING_RATE, **({"mixed_precision": "bf16"} if work.real else {}),
    }  # fmt: skip
    prompts = in_groups(PROMPTS, work.images // 2, 0)
    trainer = open_trainer(
        folder, work.pipeline(device), work.rank, settings, lambda images, _: images.float().mean(dim=(1, 2, 3)), prompts, device
    )  # fmt: skip
    seconds = timed(trainer, ("_generate_samples", "_train_batched_samples"), partial(clock, device))

    def iterate() -> tuple[float, float]:
        trainer.step(0, 0)
        return seconds["_generate_samples"], seconds["_train_batched_samples"]

    return iterate


def in_turn(rows: dict[str, Iterate], rounds: int, limit: float, device: torch.device) -> Iterator[Round]:
    """Yield the seconds of every row, round by round, after a warm-up; no round begins after ``limit`` seconds."""
    began = clock(device)
    for number in range(rounds + 1):
        found = {}
        for name, iterate in rows.items():
            started = clock(device)
            sampling, training = iterate()
            found[name] = {"sampling": sampling, "training": training, "total": clock(device) - started}
            print(f"round {number}, {name}: {found[name]['total']:.1f} s", file=sys.stderr, flush=True)
        if number:
            yield found
            if clock(device) - began > limit:
                return


def summarize(rounds: list[Round], images: int) -> list[dict[str, Any]]:
    """Return medians of every row, and its ratios to the bare calls, eager and compiled, where these were measured."""
    table = []
    for name in rounds[0]:
        medians = {part: statistics.median(r[name][part] for r in rounds) for part in rounds[0][name]}
        floors = {f"over_{floor}": ratio(rounds, name, floor) for floor in (BARE, BARE_COMPILED)}
        table.append({"row": name, **medians, "images_per_second": images / medians["total"], **floors})
    return table


def ratio(rounds: list[Round], first: str, second: str) -> float | None:
    """Return how much longer the first takes than the second, the median over rounds; None where one is not measured."""
    measured = {first, second} <= rounds[0].keys()
    return statistics.median(r[first]["total"] / r[second]["total"] for r in rounds) if measured else None


def show(table: list[dict[str, Any]], rounds: list[Round]) -> None:
    """Print the table and the two ratios that count."""
    print(f"{'row':14s} sampling s training s  total s images/s  / bare / bare compiled")
    for row in table:
        over = [f"{row[key]:.2f}" if row[key] else "-" for key in (f"over_{BARE}", f"over_{BARE_COMPILED}")]
        print(
            f"{row['row']:14s} {row['sampling']:10.2f} {row['training']:10.2f} {row['total']:8.2f} "
            f"{row['images_per_second']:8.2f} {over[0]:>7s} {over[1]:>15s}"
        )
    best = OURS_COMPILED if OURS_COMPILED in rounds[0] else OURS
    floor, rival = ratio(rounds, best, BARE_COMPILED), ratio(rounds, TRL, best)
    said = [f"ours over the bare compiled calls: {floor:.2f}"] if floor else []
    said += [f"TRL over ours: {rival:.2f}"] if rival else []
    print("; ".join([*said, f'"ours" is {best}']))


def arguments() -> argparse.Namespace:
    """Read the flags; what is not given depends on the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="SD 1.5's size in bf16, for a card")
    parser.add_argument("--trl", type=Path, metavar="DIR", help="folder that pip unpacked TRL 0.23.1 into")
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=ROWS, help="rows to run")
    parser.add_argument("--compile", default="full", choices=("full", "blocks"), help="what ours_compiled compiles")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, help="seconds after which no further round begins; 270 with --real")
    for name in USUAL:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--json", type=Path, help="file for the rows and rounds")
    return parser.parse_args()


def main() -> None:
    """Measure the rows that are asked for."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the calls that TRL makes
    logging.set_verbosity_error()
    given = arguments()
    sizes = {name: getattr(given, name) or usual[given.real] for name, usual in USUAL.items()}
    work, limit = Work(given.real, **sizes), given.limit or (270 if given.real else math.inf)
    if work.images % 2 or work.images < 4 or work.images % work.sample_batch or work.sample_batch % work.train_batch:
        raise SystemExit(f"{sizes}: use even images, 4 or more, a multiple of sample_batch, itself one of train_batch.")
    device = (accelerator := Accelerator()).device
    makers: dict[str, Callable[[], Iterate]] = {
        BARE: partial(bare, work, device, False), BARE_COMPILED: partial(bare, work, device, True),
        OURS: partial(ours, work, device, accelerator, "no"), TRL: partial(theirs, work, device, given.trl),
        OURS_COMPILED: partial(ours, work, device, accelerator, given.compile),
    }  # fmt: skip
    wanted = [name for name in ROWS if name in given.only and (name != TRL or given.trl)]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, PyTorch {torch.__version__}; {work}", flush=True)
    rounds = list(in_turn({name: makers[name]() for name in wanted}, given.rounds, limit, device))
    show(table := summarize(rounds, work.images), rounds)
    if TRL in given.only and not given.trl:
        print(HOW_TO_GET)
    if given.json:
        facts = {"device": where, "torch": torch.__version__, "work": asdict(work), "compile": given.compile}
        given.json.write_text(json.dumps({**facts, "rows": table, "rounds": rounds}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
