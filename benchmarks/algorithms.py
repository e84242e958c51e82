"""Every algorithm on the embedded world: the same people, reward, prompts and pictures; what each gained, and in what time.

python benchmarks/algorithms.py --run outputs/eight --num_images 720 --workers 2
python benchmarks/algorithms.py --models world --draw docs/algorithms.png
python benchmarks/algorithms.py --models flow --num_images 480 --draw docs/algorithms_flow.png
python benchmarks/algorithms.py --run outputs/eight --settings benchmarks/over_optimization.yaml --num_images 1080
python benchmarks/algorithms.py --settings benchmarks/over_optimization.yaml --num_images 1080 --draw docs/over_optimization.png

``--run`` names the folder of a quickstart, whose rewards and people are used (a reward of another encoder that settings ask
for is fitted once, and kept there). Each run is one row of
``benchmarks/measured/<settings>.jsonl``; what is there is not run again, so the grid can be filled in parts. Every worker
has one thread, so seconds compare between algorithms on the same machine, and with nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from algorithm_figures import draw_figure, foretold, table

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.registry import build_settings, open_algorithm
from pamela_rl.config import AdvantageSettings, AlgorithmChoice, TrainConfig
from pamela_rl.diffusion.adapters import remove_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.errors import PamelaError
from pamela_rl.evaluation.compare import Arm, UserComparison, compare_user
from pamela_rl.evaluation.distances import diversity
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.settings import WORLD
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import SHIPPED_PIPELINES, read_metrics
from pamela_rl.training.loop import settings_of, train
from pamela_rl.world.algorithm_settings import ALGORITHM_SETTINGS
from pamela_rl.world.captions import train_and_held_out_prompts, world_prompts
from pamela_rl.world.fitted_rewards import fit_reward, measure_agreement
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import make_raters
from pamela_rl.world.ratings import make_ratings
from pamela_rl.world.saved_rewards import open_rewards

HERE = Path(__file__).parent
KEYS = ("model", "arm", "user", "seed", "num_images", "zero", "settings")


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    model: str
    arm: str
    user: str
    seed: int
    num_images: int
    zero: bool
    rewards: Path
    algorithm: AlgorithmChoice
    train: dict[str, Any]
    encoder: str

    def config(self) -> TrainConfig:
        """Put together the settings of the run."""
        settings = {**self.train, "seed": self.seed}
        settings["num_iterations"] = self.num_images // settings["images_per_iteration"]
        config = build_settings(TrainConfig, settings, f"arm {self.arm}")
        return dataclasses.replace(config, advantages=AdvantageSettings(zero=True)) if self.zero else config

    def opened(self) -> Algorithm:
        """Make the algorithm."""
        return open_algorithm(self.algorithm, ALGORITHM_SETTINGS[self.model])

    def key(self) -> tuple[Any, ...]:
        """Tell runs apart: by what they are, and by a hash of all their settings."""
        settings = [settings_of(self.opened()), dataclasses.asdict(self.config())]
        settings += [self.encoder] if self.encoder != WORLD else []
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        return self.model, self.arm, self.user, self.seed, self.num_images, self.zero, digest


def measure(cell: Cell) -> dict[str, Any]:
    """Train one adapter and draw held-out prompts with it and with the base model."""
    torch.set_num_threads(1)
    config, algorithm = cell.config(), cell.opened()
    reward, scorers = open_rewards(cell.rewards)
    if cell.encoder != WORLD:
        reward = PersonalReward.load(another_reward(cell.rewards, cell.encoder), open_encoder(cell.encoder, "cpu"))
        scorers["reward"] = reward
    policy = policy_for(load_pipeline(cell.model))
    held_out = train_and_held_out_prompts()[1]
    monitors = {name: scorer for name, scorer in scorers.items() if name != "reward"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        name = train(
            policy, reward, world_prompts(cell.user), config, algorithm, folder, Accelerator(cpu=True), monitors
        )
        rows, validation = read_metrics(folder / "metrics.jsonl"), read_metrics(folder / "validation.jsonl")
    arms = [Arm("base", PipelineGenerator(policy.pipeline, None)), Arm("own", PipelineGenerator(policy.pipeline, name))]
    compared = compare_user(cell.user, arms, held_out[:16], 2, scorers)
    remove_adapter(policy, name)
    seconds = [row["time/seconds"] for row in rows]
    for row in validation:
        row["seconds"] = round(sum(seconds[: row["iteration"]]), 2)
        row["images"] = row["iteration"] * config.images_per_iteration
    facts = dict(zip(KEYS, cell.key(), strict=True))
    return facts | {"seconds": round(sum(seconds), 1), **_means(compared), "validation": validation}


def another_reward(rewards: Path, encoder: str) -> Path:
    """Say where the reward of another encoder is, fitted to the same ratings; the judge keeps the world's."""
    return rewards / f"personal_{encoder}"


def fit_another(rewards: Path, encoder: str) -> None:
    """Fit the reward of another encoder, if that is not done yet."""
    folder, raters = another_reward(rewards, encoder), make_raters()
    if encoder != WORLD and not folder.exists():
        ratings = make_ratings(raters, ContentJudge.load())
        reward, features = fit_reward(ratings, raters, open_encoder(encoder, "cpu"))
        for split, (personal, *_) in measure_agreement(reward, features, ratings, raters).items():
            print(f"reward of {encoder}, {split}: SROCC {personal.srocc[0]:.3f}")
        reward.save(folder)


def _means(compared: UserComparison) -> dict[str, Any]:
    """Means over held-out pictures of every score, and how far pictures of one prompt differ, for both arms."""
    groups = np.unique(compared.prompts, return_inverse=True)[1]
    return {
        arm: {name: round(float(values.mean()), 4) for name, values in compared.scores[arm].items()}
        | {"diversity": round(diversity(compared.images[arm], groups), 4)}
        for arm in ("base", "own")
    }


def read_settings(path: Path) -> dict[str, Any]:
    """Read what the arms are."""
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return settings


def measured(settings: Path) -> Path:
    """Say where the rows of some settings are."""
    return HERE / "measured" / f"{settings.stem}.jsonl"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all measured rows."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def grid(given: argparse.Namespace) -> list[Cell]:
    """List the runs that were asked for and not measured, seeds outermost, so that a part of the grid is balanced."""
    settings = read_settings(given.settings)
    arms, common = settings["arms"], settings["common"]
    rewards = given.run / "rewards"
    users = json.loads((rewards / "rewards.json").read_text(encoding="utf-8"))["users"][: given.users]
    known = {tuple(row.get(key) for key in KEYS) for row in read_rows(measured(given.settings))}
    cells = [
        Cell(
            model,
            arm,
            user,
            seed,
            given.num_images,
            given.zero,
            rewards,
            arms[arm]["algorithm"],
            {**common, **arms[arm].get("train", {}), **arms[arm].get("train_on", {}).get(model, {})},
            settings.get("encoder", WORLD),
        )
        for seed in range(given.seeds)
        for model in given.models
        for user in users
        for arm in given.arms or arms
        if model in arms[arm].get("models", SHIPPED_PIPELINES)
    ]
    return [cell for cell in cells if cell.key() not in known]


def arguments() -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("outputs/quickstart"), help="a quickstart's folder")
    parser.add_argument("--settings", type=Path, default=HERE / "algorithms.yaml", help="what the arms are")
    parser.add_argument("--models", nargs="+", choices=SHIPPED_PIPELINES, default=list(SHIPPED_PIPELINES))
    parser.add_argument("--arms", nargs="+", help="of the settings; none means all")
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--num_images", type=int, default=720, help="to learn from, a run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--zero", action="store_true", help="the control: no advantages, no gradient of the reward")
    parser.add_argument(
        "--draw", type=Path, help="draw the figure from what was measured, run nothing, print the table"
    )
    return parser.parse_args()


def main(given: argparse.Namespace) -> None:
    """Fill the grid, or draw what is there."""
    file = measured(given.settings)
    if given.draw:
        settings = read_settings(given.settings)
        titles = {name: arm["title"] for name, arm in settings["arms"].items()}
        rows = [
            row for row in read_rows(file) if row["num_images"] == given.num_images and row["model"] in given.models
        ]
        draw_figure(rows, titles, settings["against"], given.draw)
        print(table(rows, titles, settings.get("rival")))
        print(foretold(rows))
        return
    cells = grid(given)
    fit_another(given.run / "rewards", read_settings(given.settings).get("encoder", WORLD))
    file.parent.mkdir(exist_ok=True)
    print(f"{len(cells)} runs are to be made.")
    with ProcessPoolExecutor(given.workers, mp_context=torch.multiprocessing.get_context("spawn")) as pool:
        for number, finished in enumerate(as_completed([pool.submit(measure, cell) for cell in cells]), 1):
            try:
                row = finished.result()
            except PamelaError as error:
                print(f"{number:4d}/{len(cells)}  failed: {error}", flush=True)
                continue
            with file.open("a", encoding="utf-8") as rows_file:
                rows_file.write(json.dumps(row) + "\n")
            gain = row["own"]["true_rating"] - row["base"]["true_rating"]
            what = f"{row['model']:6s} {row['arm']:14s} {row['user']} seed {row['seed']}"
            print(f"{number:4d}/{len(cells)}  {what}: true rating {gain:+.2f}, {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main(arguments())
