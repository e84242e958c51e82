"""Kills a run at random moments, starts it again with the same settings, and compares its adapter with an unharmed run's.

python benchmarks/kills.py --kills 20

Every other kill falls on a rename inside a save, the others anywhere between start and end. SIGKILL: nothing can be
caught. A run is the real one: adapter, validation, checkpoints after every iteration, on the world at 32 x 32 pixels.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.config import SamplingConfig, TrainConfig, ValidationSettings
from pamela_rl.data.prompts import PromptSource
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.training.loop import train
from pamela_rl.types import RewardOutput

CONFIG = TrainConfig(
    num_iterations=6,
    images_per_iteration=8,
    group_size=4,
    batch_size=8,
    checkpoint_every=1,
    sampling=SamplingConfig(num_inference_steps=4, train_steps=2),
    validation=ValidationSettings(every=2, num_images=4),
)


def darkness(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
    """A reward that needs no fitting."""
    return RewardOutput(-images.mean(dim=(1, 2, 3)))


def start(folder: Path, die_at_rename: int | None = None) -> int:
    """Run the training in a process of its own, and return its number; it may kill itself at a rename."""
    child = os.fork()
    if child:
        return child
    try:
        _work(folder, die_at_rename)
    finally:
        os._exit(1)  # whatever happened: what is above this process on the stack belongs to its parent


def _work(folder: Path, die_at_rename: int | None) -> None:
    torch.set_num_threads(1)
    if die_at_rename is not None:
        _die_at_rename(die_at_rename)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 2)
        policy = policy_for(load_pipeline("world"), 32, 32)
        prompts = PromptSource(["a boat", "a tree"], "ada")
        train(
            policy, darkness, prompts, CONFIG, DDPO(num_updates=1), folder, Accelerator(cpu=True), {"judge": darkness}
        )
    os._exit(0)


def _die_at_rename(number: int) -> None:
    own, calls = os.replace, iter(range(1_000_000))

    def replace(*arguments: object) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        own(*arguments)  # type: ignore[arg-type]

    os.replace = replace  # type: ignore[assignment]


def finish(child: int) -> bool:
    """Wait for a process; tell whether it ended by itself and well."""
    return os.waitpid(child, 0)[1] == 0


def adapter(folder: Path) -> dict[str, Tensor]:
    """Read the adapter that a finished run left."""
    return load_file(str(folder / "checkpoint" / "adapter.safetensors"))


def main() -> None:
    """Print one line a kill, and how many adapters are equal to the bit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance, equal, killed = random.Random(arguments.seed), 0, 0
    with tempfile.TemporaryDirectory() as root:
        begun = time.monotonic()
        assert finish(start(Path(root) / "unharmed"))
        seconds, unharmed = time.monotonic() - begun, adapter(Path(root) / "unharmed")
        renames = 3 * CONFIG.num_iterations
        for number in range(arguments.kills):
            folder = Path(root) / f"killed-{number}"
            if number % 2 == 0:
                rename = chance.randrange(renames)
                moment, survived = f"at rename {rename}", finish(start(folder, rename))
            else:
                delay = chance.uniform(0.1, 0.95) * seconds
                child = start(folder)
                time.sleep(delay)
                os.kill(child, signal.SIGKILL)
                moment, survived = f"after {delay:.2f} s of {seconds:.2f}", finish(child)
            killed += not survived
            assert finish(start(folder)), "the run did not go on"
            again = adapter(folder)
            same = unharmed.keys() == again.keys() and all(torch.equal(unharmed[k], again[k]) for k in unharmed)
            equal += same
            print(f"killed {moment}: {'the same adapter' if same else 'ANOTHER ADAPTER'}", flush=True)
    print(
        f"{equal} of {arguments.kills} adapters are equal to the bit; {killed} of the runs were killed before their end."
    )
    sys.exit(equal != arguments.kills)


if __name__ == "__main__":
    main()
