"""One person with sixty images and an opinion on each.

python benchmarks/one_person.py --what photographs
python benchmarks/one_person.py --what alone
python benchmarks/one_person.py --what few

photographs: eight simulated users rate 60 scenes by the renderer ("photographs"), 60 of them all at noon, 60 images of
the base model, or 30 and 30. A reward is fitted to each user's ratings alone and scores 192 other images of the base model, of held-out
prompts: Spearman's correlation with the user's true ratings of these, mean over three draws of the rated images, then
over users with a 95 % interval.

alone: the same eight users each rate 60 images of the base model. A folder with these and a CSV of image and rating is all
that fit_reward.py gets, and its reward all that train.py gets, both as the README gives them; once with the default encoder
and once with the world's. The adapters draw 64 images each of held-out prompts, on the base's noise, and the true ratings
are compared.

few: a reward is fitted to 40 or 60 ratings of the base model's images by one user alone (users 176 to 191, who are none of
the eight), or by eight users together, with the world's encoder and prompts: Spearman's correlation with their ratings of 180 other images,
root mean square error against their true ratings, and the share of these ratings inside the predicted intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pamela_rl.agreement.calibration import coverage
from pamela_rl.agreement.measures import srocc
from pamela_rl.data.ratings import RatingScale
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.evaluation.compare import summarize
from pamela_rl.evaluation.compare_adapters import compare_adapters
from pamela_rl.evaluation.text_tables import summary_table
from pamela_rl.intervals import mean_interval
from pamela_rl.rewards.encoders.features import encode_all
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors, feature_parts
from pamela_rl.rewards.settings import DEFAULT_ENCODER, WORLD
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.storage import write_text
from pamela_rl.world.captions import caption, train_and_held_out_prompts
from pamela_rl.world.fitted_rewards import to_pil
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.scenes import Scene, draw_scenes, random_scenes
from pamela_rl.world.scorers import world_scorers

OUTPUTS, RECIPES = Path("outputs"), Path(__file__).parents[1] / "recipes"
NUM_RATED, NUM_SETS, NUM_SCORED = 60, 3, 192


def draw(prompts: Sequence[str], count: int, seed: int) -> tuple[Tensor, list[str]]:
    """Draw images of the world's base model, the prompts in turn, as recipes/draw.py does."""
    asked = [prompts[number % len(prompts)] for number in range(count)]
    seeds = [generator_for(seed, number).initial_seed() for number in range(count)]
    return PipelineGenerator(load_pipeline("world"))(asked, seeds), asked


def photographs(count: int, seed: int, **fixed: str) -> tuple[Tensor, list[str]]:
    """Render scenes, some attributes the same in all, and name each one's subject, which a user sees on a photograph."""
    scenes = [Scene(**{**vars(scene), **fixed}) for scene in random_scenes(count, seed)]
    return torch.from_numpy(draw_scenes(scenes, seed)).permute(0, 3, 1, 2).float() / 255, [
        caption(s, ()) for s in scenes
    ]


@dataclass(frozen=True)
class RatedSets:
    """Images of one kind that are rated, in sets of ``NUM_RATED``.

    Attributes:
        features: ``(n, d)``.
        expected: Every user's true rating of each, ``(n, u)``.
    """

    features: Tensor
    expected: Tensor

    def part(self, number: int, first: int, last: int) -> RatedSets:
        """Return some images of one set."""
        rows = slice(number * NUM_RATED + first, number * NUM_RATED + last)
        return RatedSets(self.features[rows], self.expected[rows])


def fitted_srocc(parts: Sequence[RatedSets], raters: Raters, user: int, seed: int, scored: RatedSets) -> float:
    """Let one user rate images, fit a reward to the ratings, and correlate its scores of others with the truth."""
    features, expected = (torch.cat([getattr(part, name) for part in parts]) for name in ("features", "expected"))
    count = len(features)
    ratings = raters.rate(expected, np.full(count, user), np.random.default_rng((user, seed)))
    rows = RatingTensors(torch.zeros(count, dtype=torch.long), torch.arange(count), torch.from_numpy(ratings).double())
    model = fit_taste_basis(RatingData(ImageFeatures(features), rows, ("me",)))
    scores = model.predict(ImageFeatures(scored.features), ["me"] * len(scored.features)).mean
    return srocc(scores.numpy(), scored.expected[:, user].numpy())


def compare_photographs() -> None:
    """Compare what ratings of photographs and of generated images teach about generated images."""
    raters, content = make_raters(), ContentJudge.load()
    users = range(0, len(raters.user_ids), 25)
    train, held_out = train_and_held_out_prompts()
    count, half = NUM_RATED * NUM_SETS, NUM_RATED // 2
    images = {
        "photographs": photographs(count, 1),
        "photographs at noon": photographs(count, 1, lighting="noon"),
        "generated": draw(train, count, 1),
        "scored": draw(held_out, NUM_SCORED, 2),
    }
    expected = {kind: raters.expected_ratings(*drawn, content) for kind, drawn in images.items()}
    print(f"users: {', '.join(raters.user_ids[user] for user in users)}")
    for name, with_prompts in ((DEFAULT_ENCODER, False), (WORLD, False), (WORLD, True)):
        encoder = open_encoder(name, "cpu")
        sets = {
            kind: RatedSets(
                encode_all(encoder, drawn, prompts if with_prompts else [""] * len(prompts)), expected[kind]
            )
            for kind, (drawn, prompts) in images.items()
        }
        for shares in (
            {"generated": NUM_RATED}, {"photographs": NUM_RATED}, {"photographs at noon": NUM_RATED},
            {"photographs": half, "generated": half}, {"photographs at noon": half, "generated": half},
        ):  # fmt: skip
            found = np.zeros((len(users), NUM_SETS))
            for place, number in np.ndindex(found.shape):
                parts = [sets[kind].part(number, 0, share) for kind, share in shares.items()]
                found[place, number] = fitted_srocc(parts, raters, users[place], number, sets["scored"])
            mean = mean_interval(found.mean(axis=1))
            described = " + ".join(f"{share} {kind}" for kind, share in shares.items())
            prompts_used = "with prompts" if with_prompts else "without prompts"
            print(f"{name:18} {prompts_used:16} {described:40} {mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}]")


def measure_few() -> None:
    """Measure rewards that are fitted to few people's few ratings."""
    raters, content, encoder = make_raters(), ContentJudge.load(), open_encoder(WORLD, "cpu")
    images, prompts = draw(train_and_held_out_prompts()[0], 480, 4)
    features, expected = encode_all(encoder, images, prompts), raters.expected_ratings(images, prompts, content)
    given_images = ImageFeatures(features, parts=feature_parts(encoder))
    for num_users, num_ratings in ((1, 40), (1, 60), (8, 60)):
        found, covered = [], []
        for first in range(176, 192, num_users):
            users, rng = list(range(first, first + num_users)), np.random.default_rng(first)
            rows = np.concatenate([rng.choice(300, num_ratings, replace=False) for _ in users])
            who = np.repeat(users, num_ratings)
            given = torch.from_numpy(raters.rate(expected[torch.from_numpy(rows)], who, rng)).double()
            ratings = RatingTensors(torch.from_numpy(who - first), torch.from_numpy(rows), given)
            model = fit_taste_basis(RatingData(given_images, ratings, tuple(map(str, users))))
            for user in users:
                output = model.predict(ImageFeatures(features[300:]), [str(user)] * 180)
                assert output.std is not None
                spread = torch.hypot(output.std.double(), model.noise_std([str(user)])).numpy()
                mean, truth = output.mean.double().numpy(), expected[300:, user].numpy()
                actual = raters.rate(expected[300:], np.full(180, user), rng).astype(np.float64)
                found.append((srocc(mean, actual), np.sqrt(np.mean((mean - truth) ** 2))))
                covered.append(coverage(mean, spread, actual, RatingScale()).mean(axis=0))
        within = " ".join(f"{100 * share:.0f}" for share in np.mean(covered, axis=0))
        rank, error = np.mean(found, axis=0)
        print(
            f"{num_users} x {num_ratings}: SROCC {rank:.3f}, error {error:.2f}, within 50/80/95 %: {within}", flush=True
        )


def run_recipe(name: str, *arguments: str) -> None:
    """Run a recipe as a user does, and show what it said if it fails."""
    done = subprocess.run(
        [sys.executable, str(RECIPES / name), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout}\n{done.stderr}")


def steer_everybody_alone(encoders: Sequence[str] = (DEFAULT_ENCODER, WORLD)) -> None:
    """Fit a reward to each user's own folder, train against it, and compare true ratings with the base model's."""
    raters, content = make_raters(), ContentJudge.load()
    names = [raters.user_ids[user] for user in range(0, len(raters.user_ids), 25)]
    train, held_out = train_and_held_out_prompts()
    images, prompts = draw(train, NUM_RATED, 3)
    expected = raters.expected_ratings(images, prompts, content)
    folder = OUTPUTS / "one_person"
    for user in names:
        mine = folder / "rated" / user
        mine.mkdir(parents=True, exist_ok=True)
        given = raters.rate(expected, np.full(NUM_RATED, raters.index(user)), np.random.default_rng(raters.index(user)))
        files = [f"{number:03}.png" for number in range(NUM_RATED)]
        for file, image in zip(files, images):
            to_pil(image).save(mine / file)
        pd.DataFrame({"image": files, "rating": given}).to_csv(mine / "ratings.csv", index=False)
    for encoder in encoders:
        run = folder / encoder
        for user in names:
            reward = run / "rewards_of" / user
            source = ["--source.path", str(folder / "rated" / user), "--source.user", user]
            run_recipe("fit_reward.py", *source, "--encoder", encoder, "--output_dir", str(reward))
            run_recipe("train.py", "--reward", str(reward), "--model.name", "world", "--output_dir", str(run))
            print(f"{encoder}: {user} trained", flush=True)
        scorers = world_scorers(names)
        compared = compare_adapters(load_pipeline("world"), run, names, held_out, scorers, seeds_per_prompt=4)
        summary = summarize(compared)
        print(f"{encoder}\n{summary_table(summary)}", flush=True)
        write_text(run / "summary.json", json.dumps(summary, indent=1) + "\n")


MODES: dict[str, Callable[[], None]] = {
    "photographs": compare_photographs,
    "alone": steer_everybody_alone,
    "few": measure_few,
}


def main() -> None:
    """Run what is asked for."""
    os.environ["TQDM_DISABLE"] = "1"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=sorted(MODES), required=True)
    parser.add_argument("--encoder", choices=(DEFAULT_ENCODER, WORLD), help="alone by this one only")
    arguments = parser.parse_args()
    if arguments.encoder:
        steer_everybody_alone([arguments.encoder])
    else:
        MODES[arguments.what]()


if __name__ == "__main__":
    main()
