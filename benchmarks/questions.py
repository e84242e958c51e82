"""Asking newcomers about the pictures that teach most, against asking about any: how many ratings that saves.

python benchmarks/questions.py

The taste basis is fitted to the world's training ratings. Each of the 44 people it does not know is asked about
validation pictures, one after the other, and measured on all 900 test pictures: Spearman's correlation of what is
predicted with what they rate, mean over people. Random questions are drawn three times.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pamela_rl.agreement.measures import srocc
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.preference import Pictures
from pamela_rl.rewards.taste.newcomer import add_rating, next_image
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.world import ENCODER, load_judge
from pamela_rl.world.learned import fit_reward, reported
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

MOST = 15
ASKED, TESTED = range(3_500, 4_100), range(4_100, 5_000)  # pictures of the validation and of the test splits


def curve(
    basis: TasteBasis, raters: Raters, ratings: WorldRatings, features: torch.Tensor, people: Sequence[str], seed: int,
    active: bool,
) -> NDArray[np.float64]:  # fmt: skip
    """Return everybody's correlation after 0, 1, 2, … ratings, ``(people, MOST + 1)``."""
    candidates, tested = Pictures(features[list(ASKED)]), Pictures(features[list(TESTED)])
    shared, design = (part.double() for part in basis.network(tested.features))
    scores = np.zeros((len(people), MOST + 1))
    for row, person in enumerate(people):
        answers = np.random.default_rng((1, row))
        said = rate(raters, ratings, ASKED, person, answers)
        truth = rate(raters, ratings, TESTED, person, answers)
        left = np.random.default_rng((seed, row)).permutation(len(ASKED)).tolist()
        posterior = basis.prior(reported(raters, person))
        for count in range(MOST + 1):
            scores[row, count] = srocc((shared + design @ posterior.mean).numpy(), truth)
            place = next_image(basis, posterior, candidates[torch.tensor(left)]) if active else 0
            picture = torch.tensor([left.pop(place)])
            posterior = add_rating(basis, posterior, candidates[picture], torch.from_numpy(said)[picture])
    return scores


def rate(
    raters: Raters, ratings: WorldRatings, pictures: range, person: str, numbers: np.random.Generator
) -> NDArray[np.float64]:
    """Let somebody rate pictures."""
    users = np.full(len(pictures), raters.index(person))
    return raters.rate(ratings.expectations[list(pictures)], users, numbers).astype(np.float64)


def main() -> None:
    """Compare."""
    os.environ["TQDM_DISABLE"] = "1"
    raters = make_raters()
    ratings = make_ratings(raters, load_judge())
    reward, features = fit_reward(ratings, raters, FeatureEncoder.load(ENCODER))
    assert isinstance(reward.model, TasteBasis)
    people = [user for user in raters.user_ids if user not in reward.model.user_ids]
    random = np.mean(
        [curve(reward.model, raters, ratings, features, people, seed, active=False) for seed in range(3)], axis=0
    )
    chosen = curve(reward.model, raters, ratings, features, people, 0, active=True)
    print("ratings " + "".join(f"{count:7d}" for count in range(MOST + 1)))
    for name, scores in (("random", random), ("chosen", chosen)):
        print(f"{name:8}" + "".join(f"{score:7.3f}" for score in scores.mean(axis=0)))
    wanted = random.mean(axis=0)[10]
    enough = int((chosen.mean(axis=0) >= wanted).argmax())
    print(f"{wanted:.3f}, reached with 10 random ratings, takes {enough} chosen ones: {1 - enough / 10:.0%} fewer")


if __name__ == "__main__":
    main()
