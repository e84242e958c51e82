"""What can be had from a few ratings of one person: every way to train, along its adapters' strength.

python benchmarks/sixty.py --people tuning --arms default half_std
python benchmarks/sixty.py --people reported
python benchmarks/sixty.py --people reported --show

Every person rates images of the base model, and everything else follows from these ratings alone. An adapter draws held-out
prompts from the base's noise at strengths from 0 to 1.25. Arms are in ``benchmarks/sixty.yaml``; settings are chosen on the
people of "tuning", and "reported" are every 25th of the list. Each run is one row of
``benchmarks/measured/sixty.jsonl`` with the scores of its images; what is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from sixty_tables import show, show_at_equal_diversity
from torch import Tensor

from pamela_rl.algorithms.registry import build_settings
from pamela_rl.config import TrainConfig
from pamela_rl.data.ratings import RatingScale
from pamela_rl.diffusion.adapters import load_adapter_folder
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.errors import PamelaError
from pamela_rl.evaluation.compare import FIRST_SEED, score_images
from pamela_rl.evaluation.distances import diversity
from pamela_rl.rewards.encoders.features import encode_all
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors, feature_parts
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.newcomer import next_images
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.training.examples import RatedExamples
from pamela_rl.training.personalize import personalize
from pamela_rl.types import Reward, Scorer
from pamela_rl.world.algorithm_settings import open_tuned_algorithm
from pamela_rl.world.captions import train_and_held_out_prompts, world_prompts
from pamela_rl.world.judge import ContentJudge, Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters

HERE = Path(__file__).parent
PEOPLE = {"reported": range(0, 200, 25), "tuning": range(12, 150, 25), "quick": range(12, 63, 25)}
NUM_CANDIDATES = 100  # of an adapter, of which those to be rated are chosen
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25)
DEFAULTS = {"reward": "personal", "encoder": "world", "prompts": True, "num_ratings": 60, "algorithm": "nft"}


@dataclass(frozen=True)
class Cell:
    """One run: an arm for a user."""

    arm: str
    settings: dict[str, Any]
    user: int
    seed: int
    seeds_per_prompt: int

    @property
    def config(self) -> TrainConfig:
        """Put together the settings of the training."""
        settings = {"num_iterations": 15, **self.settings.get("train", {}), "seed": self.seed}
        return build_settings(TrainConfig, settings, f"arm {self.arm}")

    @property
    def key(self) -> str:
        """Tell runs apart by all their settings."""
        facts = [self.settings, dataclasses.asdict(self.config), self.user, self.seeds_per_prompt]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def rated_images(count: int) -> tuple[Tensor, list[str], Tensor]:
    """Draw images of the base model, the prompts in turn, with every user's expected rating."""
    prompts = train_and_held_out_prompts()[0]
    asked = [prompts[number % len(prompts)] for number in range(count)]
    seeds = [generator_for(3, number).initial_seed() for number in range(count)]
    images = PipelineGenerator(load_pipeline("world"))(asked, seeds)
    return images, asked, make_raters().expected_ratings(images, asked, ContentJudge.load())


@cache
def opened(encoder: str) -> Any:
    """Open an encoder once a process."""
    return open_encoder(encoder, "cpu")


@dataclass(frozen=True)
class Rated:
    """A user's rated images.

    Attributes:
        user: Row among the raters.
        images: ``(n, 3, h, w)``.
        prompts: One an image.
        ratings: One an image, ``(n,)``.
    """

    user: int
    images: Tensor
    prompts: list[str]
    ratings: Tensor

    @classmethod
    def first(cls, user: int, count: int) -> Rated:
        """Let a user rate the first images of the base model."""
        images, prompts, expected = rated_images(count)
        given = make_raters().rate(expected, np.full(count, user), np.random.default_rng(user))
        return cls(user, images, prompts, torch.from_numpy(given).double())

    def and_more(self, images: Tensor, prompts: list[str], seed: int) -> Rated:
        """Let the user rate further images."""
        expected = make_raters().expected_ratings(images, prompts, ContentJudge.load())
        given = make_raters().rate(expected, np.full(len(images), self.user), np.random.default_rng((self.user, seed)))
        ratings = torch.cat([self.ratings, torch.from_numpy(given).double()])
        return Rated(self.user, torch.cat([self.images, images]), self.prompts + prompts, ratings)


def fit(encoder: str, prompts: bool, rated: Rated) -> PersonalReward:
    """Fit a reward to one user's ratings alone."""
    count, users = len(rated.ratings), (make_raters().user_ids[rated.user],)
    features = encode_all(opened(encoder), rated.images, rated.prompts if prompts else [""] * count)
    rows = RatingTensors(torch.zeros(count, dtype=torch.long), torch.arange(count), rated.ratings)
    given = ImageFeatures(features, parts=feature_parts(opened(encoder)))
    model = fit_taste_basis(RatingData(given, rows, users))
    fitted_on = FittedOn(frozenset(users), frozenset(map(str, range(count))), 0, RatingScale(), prompts, True)
    return PersonalReward(opened(encoder), model, fitted_on)


@cache
def opened_policy() -> Any:
    """Open the world's model once a process."""
    return policy_for(load_pipeline("world"))


@cache
def base_images(seeds_per_prompt: int) -> Tensor:
    """Draw the held-out prompts with the base model."""
    return PipelineGenerator(opened_policy().pipeline)(*held_out(seeds_per_prompt))


def held_out(seeds_per_prompt: int) -> tuple[list[str], list[int]]:
    """List the prompt and seed of every image that is compared."""
    prompts = [prompt for prompt in train_and_held_out_prompts()[1][:16] for _ in range(seeds_per_prompt)]
    return prompts, [FIRST_SEED + row for row in range(len(prompts))]


def measure(cell: Cell) -> dict[str, Any]:
    """Train one adapter, and draw with it at every strength."""
    torch.set_num_threads(1)
    user, settings = make_raters().user_ids[cell.user], {**DEFAULTS, **cell.settings}
    content, policy = ContentJudge.load(), opened_policy()
    truth = TrueRating(make_raters(), content)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        personal, adapter = trained(cell, settings, user, truth, Path(folder))
        seconds = time.monotonic() - started
        load_adapter_folder(policy.pipeline, adapter, "own")
    scorers: dict[str, Scorer] = {"true_rating": truth, "reward": personal, "faithfulness": Faithfulness(content)}
    asked, seeds = held_out(cell.seeds_per_prompt)
    groups = np.unique(asked, return_inverse=True)[1]
    drawn = {"0": base_images(cell.seeds_per_prompt)}
    for value in settings.get("strengths", STRENGTHS):
        drawn[f"{value:g}"] = PipelineGenerator(policy.pipeline, "own", strength=value)(asked, seeds)
    policy.pipeline.delete_adapters("own")
    found: dict[str, dict[str, Any]] = {}
    for strength, images in drawn.items():
        scores = score_images(images, asked, user, scorers)
        found[strength] = {score: np.round(values, 3).tolist() for score, values in scores.items()}
        found[strength]["diversity"] = round(diversity(images, groups), 4)
        foretold = personal.model.predict(personal.features(images, asked), [user] * len(asked)).mean
        found[strength]["outside"] = round(float(((foretold < 1) | (foretold > 5)).double().mean()), 3)
    return {
        "key": cell.key, "arm": cell.arm, "user": user, "seed": cell.seed, "seconds": round(seconds, 1),
        "strengths": found,
    }  # fmt: skip


def trained(
    cell: Cell, settings: dict[str, Any], user: str, truth: Reward, folder: Path
) -> tuple[PersonalReward, Path]:
    """Fit the reward and train the adapter, in one or more rounds; the last reward, and the adapter's folder."""
    rounds, policy, adapter = settings.get("rounds", 1), opened_policy(), None
    count = settings["num_ratings"] // rounds
    rated, prompts = Rated.first(cell.user, count), train_and_held_out_prompts()[0]
    algorithm, examples = open_tuned_algorithm(settings["algorithm"], "world"), None
    if "before" in settings:
        before = Cell(cell.arm, settings["before"], cell.user, cell.seed, cell.seeds_per_prompt)
        _, adapter = trained(before, {**DEFAULTS, **settings["before"]}, user, truth, folder / "before")
    for number in range(rounds):
        personal = fit(settings["encoder"], settings["prompts"], rated)
        if algorithm.learns_from != "rollouts":
            examples = RatedExamples.of(user, rated.images, rated.prompts, rated.ratings)
        reward = None if examples is not None else truth if settings["reward"] == "truth" else personal
        source = world_prompts(user)
        adapter = personalize(
            policy, reward, source, cell.config, algorithm, folder / str(number), Accelerator(cpu=True),
            examples=examples, start=adapter,
        )  # fmt: skip
        if number + 1 < rounds:
            rated = asked_next(personal, rated, adapter, prompts, count, number)
    assert adapter is not None
    return personal, adapter


def asked_next(
    reward: PersonalReward, rated: Rated, adapter: Path, prompts: list[str], count: int, number: int
) -> Rated:
    """Let the user rate the images that tell most, of those that the adapter draws."""
    pipeline, user = opened_policy().pipeline, reward.model.user_ids[0]
    load_adapter_folder(pipeline, adapter, "asked")
    asked = [prompts[place % len(prompts)] for place in range(NUM_CANDIDATES)]
    seeds = [generator_for(4, number, place).initial_seed() for place in range(NUM_CANDIDATES)]
    images = PipelineGenerator(pipeline, "asked")(asked, seeds)
    pipeline.delete_adapters("asked")
    assert isinstance(reward.model, TasteBasis)
    features = ImageFeatures(
        encode_all(reward.encoder, images, asked if reward.fitted_on.prompts else [""] * len(asked))
    )
    rows = next_images(reward.model, user, features, count)
    return rated.and_more(images[rows], [asked[row] for row in rows], number)


def main() -> None:
    """Measure what is asked for and not known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", choices=sorted(PEOPLE), required=True)
    parser.add_argument("--arms", nargs="*", help="none means all")
    parser.add_argument("--settings", type=Path, default=HERE / "sixty.yaml")
    parser.add_argument("--rows", type=Path, default=HERE / "measured" / "sixty.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds_per_prompt", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--strengths", nargs="*", default=["0.5", "0.75", "1"], help="that are shown")
    parser.add_argument("--show", action="store_true", help="only show what is known")
    given = parser.parse_args()
    arms: dict[str, Any] = yaml.safe_load(given.settings.read_text(encoding="utf-8"))
    wanted = given.arms or list(arms)
    cells = [
        Cell(arm, arms[arm] or {}, user, given.seed, given.seeds_per_prompt)
        for arm in wanted for user in PEOPLE[given.people]
    ]  # fmt: skip
    text = given.rows.read_text(encoding="utf-8") if given.rows.exists() else ""
    known = {row["key"]: row for row in map(json.loads, text.splitlines())}
    missing = [] if given.show else [cell for cell in cells if cell.key not in known]
    with ProcessPoolExecutor(given.workers, mp_context=torch.multiprocessing.get_context("spawn")) as pool:
        for finished in as_completed([pool.submit(measure, cell) for cell in missing]):
            try:
                row = finished.result()
            except PamelaError as error:
                print(f"failed: {error}", flush=True)
                continue
            known[row["key"]] = row
            with given.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{row['arm']} {row['user']}: {row['seconds']:.0f} s", flush=True)
    found = [known[cell.key] for cell in cells if cell.key in known]
    show(found, tuple(given.strengths))
    show_at_equal_diversity(found, wanted)


if __name__ == "__main__":
    main()
