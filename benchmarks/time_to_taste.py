"""Wall seconds until a person of the embedded world really likes the images more: ours against TRL 0.23.1's DDPOTrainer.

python benchmarks/time_to_taste.py --reward outputs/quickstart/rewards/personal --trl DIR
python benchmarks/time_to_taste.py --trl DIR --arms trl_tuned --learning_rate 6e-3 --clip_range 1e-4

All arms train the same base model against the same numbers of the same personal reward, which is fitted as the quickstart
does unless its folder is given. "ours" is the quickstart's configuration with its validations and checkpoints, but goes on
after its last iteration. "trl" has the settings of TRL's own example, "trl_tuned" those that suit this model, which are
flags. After every iteration, with the clock stopped, the adapter draws held-out prompts from fixed seeds; the gain is their
mean true rating over that of the base model's images. The clock runs from the trainer's construction on. Each arm ends when
all targets are reached, or after ``--cap`` seconds. Nobody is in another benchmark's results, nor were settings chosen on them.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from sixty import base_images, held_out
from torch import Tensor
from trl_ddpo import ADAPTER, HOW_TO_GET, in_groups, open_trainer

from pamela_rl.algorithms.registry import build_settings
from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.opening import open_reward
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.training.loop import train
from pamela_rl.world.algorithm_settings import open_tuned_algorithm
from pamela_rl.world.captions import train_and_held_out_prompts, world_prompts
from pamela_rl.world.fitted_rewards import fit_reward
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import TrueRating, make_raters
from pamela_rl.world.ratings import make_ratings

QUICKSTART = Path(__file__).parents[1] / "recipes" / "configs" / "quickstart.yaml"
USERS = ("rater-033", "rater-118")
TARGETS = (0.5, 0.8, 1.0)
# examples/scripts/ddpo.py of TRL 0.23.1; the rest are DDPOConfig's defaults: learning rate 3e-4, clip range 1e-4, guidance 5
EXAMPLE: dict[str, Any] = {
    "sample_num_steps": 50, "sample_batch_size": 6, "train_batch_size": 3, "sample_num_batches_per_epoch": 4,
    "per_prompt_stat_tracking": True, "per_prompt_stat_tracking_buffer_size": 32,
    "sample_eta": 0.999,  # at its default, 1, the first step from the world's pure noise is not a number
}  # fmt: skip
EXAMPLE_RANK = 4
# what our own DDPO has on this model (pamela_rl/world/algorithm_settings.py, TrainConfig), but for the KL that TRL lacks
TUNED: dict[str, Any] = {
    "learning_rate": 1.2e-2, "clip_range": 1e-3, "guidance": 1.0, "eta": 0.999, "steps": 10, "trained": 4, "images": 48,
    "group": 12, "train_batch": 24, "rank": 8,
}  # fmt: skip


class EnoughError(Exception):
    """Ends an arm's training: all targets are reached, or its time is over."""


@dataclass
class Check:
    """An arm's clock, which stands while the adapter's images are rated.

    Attributes:
        rate: Maps images of the held-out prompts to their mean true rating.
        base: That of the base model's.
        targets: Gains at which the arm may end.
        cap: Seconds after which it ends.
        iterations: After which it ends.
        seeds_per_prompt: Of the images.
        curve: Seconds and gain after every iteration.
    """

    rate: Callable[[Tensor], float]
    base: float
    targets: Sequence[float]
    cap: float
    iterations: float
    seeds_per_prompt: int
    curve: list[tuple[float, float]] = field(default_factory=list)
    _seconds: float = 0.0
    _since: float = 0.0

    def start(self) -> None:
        """Let the clock run."""
        self._since = time.perf_counter()

    def __call__(self, draw: PipelineGenerator) -> None:
        """Stop the clock, measure, and let it run again.

        Raises:
            EnoughError: The arm is done.
        """
        self._seconds += time.perf_counter() - self._since
        gain = self.rate(draw(*held_out(self.seeds_per_prompt))) - self.base
        self.curve.append((self._seconds, gain))
        print(f"  {len(self.curve):3d}. {self._seconds:6.1f} s: {gain:+.3f}", flush=True)
        if self._seconds >= self.cap or gain >= max(self.targets) or len(self.curve) >= self.iterations:
            raise EnoughError
        self.start()

    def seconds_to(self, target: float) -> float | None:
        """Return the seconds at the end of the first iteration with such a gain; None where there is none in time."""
        return next((seconds for seconds, gain in self.curve if gain >= target and seconds <= self.cap), None)


def quickstart_config() -> tuple[str, TrainConfig]:
    """Read the quickstart's algorithm and settings, with no end of iterations."""
    settings = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    changed = {**settings["train"], "num_iterations": 1_000_000}
    return settings["algorithm"], build_settings(TrainConfig, changed, str(QUICKSTART))


def run_ours(user: str, reward: PersonalReward, check: Check) -> None:
    """Train as the quickstart does."""
    name, config = quickstart_config()
    policy = policy_for(load_pipeline("world"))

    class Bar:  # of the loop's interface: told of every iteration that is done
        def update(self) -> None:
            with policy.drawing():
                check(PipelineGenerator(policy.pipeline))

    source, algorithm = world_prompts(user), open_tuned_algorithm(name, "world")
    with tempfile.TemporaryDirectory() as folder:
        check.start()
        train(policy, reward, source, config, algorithm, Path(folder), Accelerator(cpu=True), bar=Bar())


def run_trl(
    user: str, reward: PersonalReward, check: Check, folder: Path, settings: dict[str, Any], group: int, rank: int
) -> None:
    """Train by TRL's ``DDPOTrainer``, prompts in groups of equal ones."""
    pipeline, std_weight = load_pipeline("world"), quickstart_config()[1].reward.std_weight

    def score(images: Tensor, prompts: Sequence[str]) -> Tensor:
        return reward(images, prompts, [user] * len(prompts)).lower_confidence_bound(std_weight)

    prompts, step = in_groups(train_and_held_out_prompts()[0], group, 0), 0
    check.start()
    trainer = open_trainer(folder, pipeline, rank, settings, score, prompts, torch.device("cpu"))
    for epoch in count():
        step = trainer.step(epoch, step)
        check(PipelineGenerator(pipeline, ADAPTER))


def tuned(given: argparse.Namespace) -> dict[str, Any]:
    """Put the flags into TRL's words: one sampling call an epoch, each update of ``train_batch`` images."""
    return {
        "train_learning_rate": given.learning_rate, "train_clip_range": given.clip_range, "sample_eta": given.eta,
        "sample_num_steps": given.steps, "train_timestep_fraction": (given.trained + 0.5) / given.steps,
        "sample_guidance_scale": given.guidance, "train_cfg": given.guidance > 1,
        "sample_batch_size": given.images, "sample_num_batches_per_epoch": 1, "train_batch_size": given.train_batch,
        "per_prompt_stat_tracking": True, "per_prompt_stat_tracking_buffer_size": given.group,
        "per_prompt_stat_tracking_min_count": given.group,
    }  # fmt: skip


def fitted_reward(folder: Path | None) -> PersonalReward:
    """Open the reward in ``folder``, or fit one as the quickstart does."""
    if folder is not None:
        return open_reward(folder)
    started, raters = time.perf_counter(), make_raters()
    ratings = make_ratings(raters, ContentJudge.load())
    reward, _ = fit_reward(ratings, raters, FeatureEncoder.load(WORLD_ENCODER))
    print(f"The reward was fitted in {time.perf_counter() - started:.0f} s.", flush=True)
    return reward


def show(rows: Sequence[dict[str, Any]], targets: Sequence[float]) -> None:
    """Print what every arm took for every user, and TRL's seconds over ours where both reached a target."""
    print(
        f"{'arm':10s} {'user':10s} base iterations " + " ".join(f"{f's to {t:+g}':>17s}" for t in targets) + "  highest"
    )
    for row in rows:
        last, best = row["curve"][-1][0], max(gain for _, gain in row["curve"])
        cells = [f"{s:.0f}" if s is not None else f"not within {last:.0f}" for s in row["seconds_to"].values()]
        print(
            f"{row['arm']:10s} {row['user']:10s} {row['base']:.2f} {len(row['curve']):10d} "
            + " ".join(f"{cell:>17s}" for cell in cells) + f" {best:+8.2f}"
        )  # fmt: skip
    known = {(row["arm"], row["user"]): row["seconds_to"] for row in rows}
    for (arm, user), seconds in known.items():
        own = known.get(("ours", user), {})
        for target in targets:
            if arm != "ours" and own.get(f"{target:g}") and seconds[f"{target:g}"]:
                print(f"{arm} over ours, {user}, {target:+g}: {seconds[f'{target:g}'] / own[f'{target:g}']:.1f}")


def arguments() -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", type=Path, help="folder of a fitted reward; none fits one first")
    parser.add_argument("--trl", type=Path, metavar="DIR", help="folder that pip unpacked TRL 0.23.1 into")
    parser.add_argument("--arms", nargs="+", default=["ours", "trl", "trl_tuned"], choices=("ours", "trl", "trl_tuned"))
    parser.add_argument("--users", nargs="+", default=list(USERS))
    parser.add_argument("--targets", nargs="+", type=float, default=list(TARGETS), help="gains in points of 1 to 5")
    parser.add_argument("--cap", type=float, default=900.0, help="seconds of training, each arm and user")
    parser.add_argument("--iterations", type=float, default=math.inf, help="at most, each arm and user")
    parser.add_argument("--seeds_per_prompt", type=int, default=4, help="images of each held-out prompt")
    parser.add_argument("--json", type=Path, help="file for the rows with their curves")
    for name, value in TUNED.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help="of trl_tuned")
    return parser.parse_args()


def main() -> None:
    """Train every arm for every user and print what it took."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the calls that TRL makes
    given = arguments()
    reward, truth = fitted_reward(given.reward), TrueRating(make_raters(), ContentJudge.load())
    prompts, rows = held_out(given.seeds_per_prompt)[0], []
    for user in given.users:

        def rate(images: Tensor, user: str = user) -> float:
            return float(truth(images, prompts, [user] * len(prompts)).mean.mean())

        base = rate(base_images(given.seeds_per_prompt))
        for arm in given.arms:
            if arm != "ours" and not given.trl:
                continue
            check = Check(rate, base, given.targets, given.cap, given.iterations, given.seeds_per_prompt)
            print(f"{arm}, {user}, base {base:.2f}:", flush=True)
            try:
                if arm == "ours":
                    run_ours(user, reward, check)
                else:
                    settings = EXAMPLE if arm == "trl" else tuned(given)
                    group, rank = (1, EXAMPLE_RANK) if arm == "trl" else (given.group, given.rank)
                    run_trl(user, reward, check, given.trl, settings, group, rank)
            except EnoughError:
                pass
            reached = {f"{target:g}": check.seconds_to(target) for target in given.targets}
            rows.append({"arm": arm, "user": user, "base": base, "seconds_to": reached, "curve": check.curve})
    show(rows, given.targets)
    if not given.trl and set(given.arms) != {"ours"}:
        print(HOW_TO_GET)
    if given.json:
        facts = {
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "cap": given.cap,
            "tuned": tuned(given),
        }
        given.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
