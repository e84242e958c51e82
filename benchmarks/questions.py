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
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.newcomer import add_rating, next_image
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.world.fitted_rewards import demographics_of, fit_reward
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

MAX_RATINGS = 15
CANDIDATES, TEST_IMAGES = range(3_500, 4_100), range(4_100, 5_000)  # pictures of the validation and of the test splits


def curve(
    basis: TasteBasis, raters: Raters, ratings: WorldRatings, features: torch.Tensor, users: Sequence[str], seed: int,
    active: bool,
) -> NDArray[np.float64]:  # fmt: skip
    """Return everybody's correlation after 0, 1, 2, … ratings, ``(users, MAX_RATINGS + 1)``."""
    candidates, tested = ImageFeatures(features[list(CANDIDATES)]), ImageFeatures(features[list(TEST_IMAGES)])
    shared, design = (part.double() for part in basis.network(tested.features))
    scores = np.zeros((len(users), MAX_RATINGS + 1))
    for row, user in enumerate(users):
        rng = np.random.default_rng((1, row))
        ratings_of_candidates = rate(raters, ratings, CANDIDATES, user, rng)
        truth = rate(raters, ratings, TEST_IMAGES, user, rng)
        unasked = np.random.default_rng((seed, row)).permutation(len(CANDIDATES)).tolist()
        posterior = basis.prior(demographics_of(raters, user))
        for count in range(MAX_RATINGS + 1):
            scores[row, count] = srocc((shared + design @ posterior.mean).numpy(), truth)
            position = next_image(basis, posterior, candidates[torch.tensor(unasked)]) if active else 0
            chosen_row = torch.tensor([unasked.pop(position)])
            posterior = add_rating(
                basis, posterior, candidates[chosen_row], torch.from_numpy(ratings_of_candidates)[chosen_row]
            )
    return scores


def rate(
    raters: Raters, ratings: WorldRatings, images: range, user: str, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Let somebody rate pictures."""
    user_rows = np.full(len(images), raters.index(user))
    return raters.rate(ratings.expected_ratings[list(images)], user_rows, rng).astype(np.float64)


def main() -> None:
    """Compare."""
    os.environ["TQDM_DISABLE"] = "1"
    raters = make_raters()
    ratings = make_ratings(raters, ContentJudge.load())
    reward, features = fit_reward(ratings, raters, FeatureEncoder.load(WORLD_ENCODER))
    assert isinstance(reward.model, TasteBasis)
    users = [user for user in raters.user_ids if user not in reward.model.user_ids]
    random = np.mean(
        [curve(reward.model, raters, ratings, features, users, seed, active=False) for seed in range(3)], axis=0
    )
    chosen = curve(reward.model, raters, ratings, features, users, 0, active=True)
    print("ratings " + "".join(f"{count:7d}" for count in range(MAX_RATINGS + 1)))
    for name, scores in (("random", random), ("chosen", chosen)):
        print(f"{name:8}" + "".join(f"{score:7.3f}" for score in scores.mean(axis=0)))
    target = random.mean(axis=0)[10]
    num_needed = int((chosen.mean(axis=0) >= target).argmax())
    print(
        f"{target:.3f}, reached with 10 random ratings, takes {num_needed} chosen ones: {1 - num_needed / 10:.0%} fewer"
    )


if __name__ == "__main__":
    main()
