"""People with many choices each: what the reward foretells, against each person's own ridge and the taste basis alone.

python benchmarks/choices.py --people 22 --draws 20

People of the world choose between two of 2,000 images, 400 times each; the share of 200 choices between other images that a
model foretells, mean over people, then over draws of people, images and noise, with a 95 % interval over draws. Differences
are paired. Each draw is a row of ``benchmarks/measured/choices.jsonl``; what is there is not fitted again.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.intervals import mean_interval
from pamela_rl.rewards.baselines.ridge_per_user import fit_ridge_per_user
from pamela_rl.rewards.encoders.features import encode_all
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.preference import (
    ChoiceTensors,
    ImageFeatures,
    PreferenceModel,
    RatingData,
    RatingTensors,
    feature_parts,
)
from pamela_rl.rewards.taste.fit import TasteBasisConfig, fit_network, fit_taste_basis
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import NOISE, make_raters
from pamela_rl.world.ratings import draw_rated_images

ROWS = Path(__file__).parent / "measured" / "choices.jsonl"
NUM_SHOWN, NUM_HELD_OUT = 2000, 500
NUM_CHOICES, NUM_TESTED = 400, 200


@cache
def images(encoder: str) -> tuple[Tensor, Tensor]:
    """Return features of all images, ``(m, d)``, and every user's expected rating of each, ``(m, u)``."""
    drawn, prompts = draw_rated_images(NUM_SHOWN + NUM_HELD_OUT, 21)
    opened = open_encoder(encoder, "cpu")
    asked = prompts if opened.reads_prompts else [""] * len(prompts)
    raters, content = make_raters(), ContentJudge.load()
    parts = [
        raters.expected_ratings(drawn[rows], [prompts[int(row)] for row in rows], content)
        for rows in torch.arange(len(drawn)).split(500)
    ]
    return encode_all(opened, drawn, asked), torch.cat(parts)


def choose(
    expected: Tensor, users: NDArray[np.int64], first: int, last: int, count: int, rng: np.random.Generator
) -> ChoiceTensors:
    """Let each user choose between images ``first`` to ``last``, ``count`` times."""
    who = np.repeat(np.arange(len(users)), count)
    pairs = np.stack([rng.choice(np.arange(first, last), 2, replace=False) for _ in who])
    seen = expected.numpy()[pairs, users[who][:, None]] + NOISE * rng.standard_normal(pairs.shape)
    outcomes = torch.from_numpy((seen[:, 0] > seen[:, 1]).astype(np.float64))
    return ChoiceTensors(torch.from_numpy(who), *torch.from_numpy(pairs).unbind(1), outcomes)


def foretold(model: PreferenceModel, features: Tensor, choices: ChoiceTensors) -> float:
    """Return the share of choices in which the model's score of the chosen image is higher."""
    names = [model.user_ids[int(user)] for user in choices.users]
    scores = [model.predict(ImageFeatures(features[rows]), names).mean for rows in (choices.first, choices.second)]
    return float(((scores[0] > scores[1]) == (choices.outcomes > 0.5)).double().mean())


def draw(people: int, number: int, encoder: str) -> dict[str, float]:
    """Fit all models to one draw."""
    features, expected = images(encoder)
    rng = np.random.default_rng((people, number))
    users = rng.choice(expected.shape[1], people, replace=False)
    shown = choose(expected, users, 0, NUM_SHOWN, NUM_CHOICES, rng)
    tested = choose(expected, users, NUM_SHOWN, NUM_SHOWN + NUM_HELD_OUT, NUM_TESTED, rng)
    none = RatingTensors(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0).double())
    given = ImageFeatures(features, parts=feature_parts(open_encoder(encoder, "cpu")))
    data = RatingData(given, none, tuple(map(str, users)), choices=shown)
    models: dict[str, PreferenceModel] = {
        "this": fit_taste_basis(data, number),
        "ridge": fit_ridge_per_user(data),
        "basis": fit_network(data, TasteBasisConfig(seed=number)),
    }
    return {name: foretold(model, features, tested) for name, model in models.items()}


def read_rows() -> dict[str, dict[str, float]]:
    """Read the draws that are known, by encoder, people and number."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row.pop("key"): row for row in rows}


def main() -> None:
    """Print means, and paired differences to the others."""
    os.environ["TQDM_DISABLE"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 8, 22, 156])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--encoder", default="world")
    parser.add_argument("--show", action="store_true", help="only show what is known")
    given = parser.parse_args()
    known = read_rows()
    for number, people in product(range(given.draws), () if given.show else given.people):
        key = f"{given.encoder} {people} {number}"
        if key not in known:
            known[key] = draw(people, number, given.encoder)
            with ROWS.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **known[key]}) + "\n")
    for people in given.people:
        keys = [f"{given.encoder} {people} {number}" for number in range(given.draws)]
        rows = [known[key] for key in keys if key in known]
        if not rows:
            continue
        print(f"{people:4} people, {len(rows)} draws")
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        found = {
            **columns,
            "this - ridge": columns["this"] - columns["ridge"],
            "this - basis": columns["this"] - columns["basis"],
        }
        for name, values in found.items():
            mean = mean_interval(values)
            low, high = (float("nan") if end is None else end for end in (mean.low, mean.high))
            print(f"{people:4} people  {name:14} {mean.estimate:+.4f} [{low:+.4f}, {high:+.4f}]", flush=True)


if __name__ == "__main__":
    main()
