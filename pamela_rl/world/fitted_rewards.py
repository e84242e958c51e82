"""The personal reward and its judge, fitted on the world's ratings, and their agreement with the users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pamela_rl.agreement.measure import controls, personal_agreement
from pamela_rl.agreement.per_user import Agreement, noise_ceiling
from pamela_rl.agreement.preparation import PreparedStudy
from pamela_rl.agreement.study import Study, make_study, with_newcomers
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.rewards.encoders.features import FeatureEncoder, encode_all
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import Encoder, ImageFeatures
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

JUDGE_USERS_SEED = 8  # other users than the reward is fitted on
JUDGE_RATINGS_SEED = 12  # other images, other noise
JUDGE_NUM_RATINGS = 60  # of each user whose adapter it judges
NEWCOMER_NUM_RATINGS = 10  # of unseen users, before evaluation


def world_study(ratings: WorldRatings, raters: Raters, features: Tensor, seed: int = 0) -> Study:
    """Return the world's ratings as a ``Study``: data for fitting, and the held-out splits."""
    table = RatingTable(ratings.table, RatingScale(), raters.demographics, "the world's ratings")
    names = dict(zip(ratings.table["image_index"], ratings.table["image"]))
    images = [str(names.get(row, f"unrated-{row}")) for row in range(len(features))]
    return make_study(table, features, images, seed=seed, num_parts=3)  # of the world's encoder


def known_users(ratings: WorldRatings, raters: Raters) -> tuple[str, ...]:
    """List the people that a reward fitted to the world's ratings knows."""
    return world_study(ratings, raters, torch.zeros(len(ratings.images), 3)).data.user_ids


def prepare_world_study(seed: int = 0) -> PreparedStudy:
    """Make and encode the world's ratings; the agreement of the true expected ratings gives the ceilings."""
    print("Two hundred simulated people rate 5,000 pictures.")
    raters, encoder = make_raters(), FeatureEncoder.load(WORLD_ENCODER)
    ratings = make_ratings(raters, ContentJudge.load())
    study = world_study(ratings, raters, encode_all(encoder, ratings.images, ratings.prompts), seed)
    ceilings = [true_ceiling(ratings, raters, split) for split in ("test_seen", "test_unseen")]
    return PreparedStudy(study, encoder, ceilings, lambda row: to_pil(ratings.images[row]))


def to_pil(image: Tensor) -> Image.Image:
    """Turn an image, ``(3, h, w)`` in [0, 1], into a PIL one."""
    return Image.fromarray((255 * image.permute(1, 2, 0)).round().to(torch.uint8).numpy())


def fit_reward(ratings: WorldRatings, raters: Raters, encoder: Encoder, seed: int = 0) -> tuple[PersonalReward, Tensor]:
    """Fit the taste basis on the training split; returns the reward and the features of all pictures, ``(n, d)``."""
    features = encode_all(encoder, ratings.images, ratings.prompts)
    study = world_study(ratings, raters, features, seed)
    return PersonalReward(encoder, fit_taste_basis(study.data, seed), study.fitted_on), features


def fit_judge(
    raters: Raters, user_ids: Sequence[str], content: ContentJudge, encoder: FeatureEncoder, num_images: int = 3_000
) -> PersonalReward:
    """Fit a second reward on other users, images and seed, then introduce ``user_ids`` to it with new ratings.

    The judge shares no rating and no image with the reward.
    """
    others = make_raters(seed=JUDGE_USERS_SEED, prefix="other")
    ratings = make_ratings(others, content, seed=JUDGE_RATINGS_SEED, num_images=num_images)
    judge, features = fit_reward(ratings, others, encoder, seed=1)
    model, rng = judge.model, np.random.default_rng(JUDGE_RATINGS_SEED)
    for user in user_ids:
        rows = torch.from_numpy(rng.choice(len(ratings.images), JUDGE_NUM_RATINGS, replace=False))
        expected = raters.expected_ratings(ratings.images[rows], [ratings.prompts[int(row)] for row in rows], content)
        observed = raters.rate(expected, np.full(len(rows), raters.index(user)), rng)
        model = model.introduce(
            user, ImageFeatures(features[rows]), torch.from_numpy(observed), demographics_of(raters, user)
        )
    return PersonalReward(encoder, model, judge.fitted_on)


def measure_agreement(
    reward: PersonalReward, features: Tensor, ratings: WorldRatings, raters: Raters
) -> dict[str, list[Agreement]]:
    """Measure the reward's agreement with the ratings of the four held-out splits.

    For comparison: the population's mean taste, a mismatched user's taste, and the noise ceiling (the true expected
    ratings). Unseen users are first introduced with 10 of their ratings.
    """
    study, results = world_study(ratings, raters, features), {}
    for split, held in study.held_out.items():
        model = with_newcomers(study, reward.model, split, NEWCOMER_NUM_RATINGS)
        results[split] = [
            personal_agreement("personal", model, held, study.data.scale),
            *controls(model, held, study.data.scale),
            true_ceiling(ratings, raters, split),
        ]
    return results


def true_ceiling(ratings: WorldRatings, raters: Raters, split: str) -> Agreement:
    """Measure the agreement of the true expected ratings of a split, as if they were a model's."""
    table = ratings.table[ratings.table["split"] == split]
    rows, users = (torch.from_numpy(table[column].to_numpy(copy=True)) for column in ("image_index", "user_index"))
    truth, observed = ratings.expected_ratings[rows, users].numpy(), table["rating"].to_numpy(dtype=np.float64)
    return replace(noise_ceiling(truth, observed, users.numpy()), name=f"noise ceiling, {split}")


def demographics_of(raters: Raters, user_id: str) -> Mapping[str, Any]:
    """Return a user's demographics by name."""
    return {str(key): value for key, value in raters.demographics.loc[user_id].to_dict().items()}


def retest_correlation(ratings: WorldRatings, raters: Raters, num_images: int = 300) -> float:
    """Return the mean over users of the correlation between two ratings of the same pictures."""
    rng = np.random.default_rng(99)
    part = ratings.expected_ratings[-num_images:]
    values = []
    for user in range(len(raters.user_ids)):
        twice = [raters.rate(part, np.full(len(part), user), rng) for _ in range(2)]
        if min(np.std(twice[0]), np.std(twice[1])) > 0:
            values.append(np.corrcoef(twice[0], twice[1])[0, 1])
    return float(np.mean(values))


def distinct_users(raters: Raters, expected_ratings: Tensor, candidates: Sequence[str], count: int) -> list[str]:
    """Choose users with different tastes: the most opposite pair first, then the least similar to those chosen.

    Users whose expected ratings vary little between pictures are left out.
    """
    rows = np.array([raters.index(user) for user in candidates])
    values = expected_ratings[:, torch.from_numpy(rows)].numpy()
    spread = values.std(axis=0)
    keep = np.flatnonzero(spread >= np.quantile(spread, 0.5))
    similarity = np.corrcoef(values[:, keep].T)
    first, second = np.unravel_index(similarity.argmin(), similarity.shape)
    chosen = [int(first), int(second)][:count]
    while len(chosen) < count:
        closest = similarity[chosen].max(axis=0)
        closest[chosen] = np.inf
        chosen.append(int(closest.argmin()))
    return [candidates[keep[row]] for row in chosen]
