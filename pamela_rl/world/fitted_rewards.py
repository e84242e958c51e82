"""What can be learned from the world's ratings: the personal reward, a judge kept apart from it, and how good both are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pamela_rl.agreement.measure import controls, personal_agreement
from pamela_rl.agreement.per_person import Agreement, noise_ceiling
from pamela_rl.agreement.study import Study, knowing, make_study
from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.rewards.encoders.features import FeatureEncoder, encode_all
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import Encoder, Pictures
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

JUDGE_PEOPLE_SEED = 8  # other people than the reward learns from
JUDGE_RATINGS_SEED = 12  # other pictures, other noise
RATINGS_SHOWN_TO_JUDGE = 60  # of each person whose adapter it judges
RATINGS_SHOWN = 10  # of newcomers, before they are measured


def world_study(ratings: WorldRatings, raters: Raters, features: Tensor, seed: int = 0) -> Study:
    """Return what models are fitted to and measured on, as of anybody's ratings."""
    table = RatingTable(ratings.table, RatingScale(), raters.demographics, "the world's ratings")
    names = dict(zip(ratings.table["image_index"], ratings.table["image"]))
    images = [str(names.get(row, f"unrated-{row}")) for row in range(len(features))]
    return make_study(table, features, images, seed=seed)


def fit_reward(ratings: WorldRatings, raters: Raters, encoder: Encoder, seed: int = 0) -> tuple[PersonalReward, Tensor]:
    """Fit the taste basis on the training split; returns the reward and the features of all pictures, ``(n, d)``."""
    features = encode_all(encoder, ratings.images, ratings.prompts)
    study = world_study(ratings, raters, features, seed)
    return PersonalReward(encoder, fit_taste_basis(study.data, seed), study.fitted_on), features


def fit_judge(
    raters: Raters, user_ids: Sequence[str], content: ContentJudge, encoder: FeatureEncoder, num_images: int = 3_000
) -> PersonalReward:
    """Fit a second reward on other people, other pictures and another seed, then show it ``user_ids``' ratings.

    Neither a rating nor a picture the reward was fitted to is among those the judge learns from.
    """
    others = make_raters(seed=JUDGE_PEOPLE_SEED, called="other")
    ratings = make_ratings(others, content, seed=JUDGE_RATINGS_SEED, num_images=num_images)
    judge, features = fit_reward(ratings, others, encoder, seed=1)
    model, numbers = judge.model, np.random.default_rng(JUDGE_RATINGS_SEED)
    for user in user_ids:
        shown = torch.from_numpy(numbers.choice(len(ratings.images), RATINGS_SHOWN_TO_JUDGE, replace=False))
        expected = raters.true_expectations(
            ratings.images[shown], [ratings.prompts[int(row)] for row in shown], content
        )
        given = raters.rate(expected, np.full(len(shown), raters.index(user)), numbers)
        model = model.introduce(user, Pictures(features[shown]), torch.from_numpy(given), reported(raters, user))
    return PersonalReward(encoder, model, judge.fitted_on)


def measure(
    reward: PersonalReward, features: Tensor, ratings: WorldRatings, raters: Raters
) -> dict[str, list[Agreement]]:
    """Measure the reward on the four held-out splits.

    Beside it stand the population's mean taste, a mismatched person's taste and the noise ceiling (the true
    expectation, which no model can beat but by luck). Unseen people are first shown 10 of their ratings.
    """
    study, results = world_study(ratings, raters, features), {}
    for split, held in study.held.items():
        model = knowing(study, reward.model, split, RATINGS_SHOWN)
        results[split] = [
            personal_agreement("personal", model, held, study.data.scale),
            *controls(model, held, study.data.scale),
            true_ceiling(ratings, raters, split),
        ]
    return results


def true_ceiling(ratings: WorldRatings, raters: Raters, split: str) -> Agreement:
    """Measure the true expectations of a split as if they were a model's."""
    table = ratings.table[ratings.table["split"] == split]
    rows, users = (torch.from_numpy(table[column].to_numpy(copy=True)) for column in ("image_index", "user_index"))
    truth, given = ratings.expectations[rows, users].numpy(), table["rating"].to_numpy(dtype=np.float64)
    return replace(noise_ceiling(truth, given, users.numpy()), name=f"noise ceiling, {split}")


def reported(raters: Raters, user_id: str) -> Mapping[str, Any]:
    """Return what a person of the world reports."""
    return {str(key): value for key, value in raters.demographics.loc[user_id].to_dict().items()}


def rerate_correlation(ratings: WorldRatings, raters: Raters, num_pictures: int = 300) -> float:
    """Return the mean over people of the correlation between two ratings of the same pictures."""
    numbers = np.random.default_rng(99)
    part = ratings.expectations[-num_pictures:]
    values = []
    for user in range(len(raters.user_ids)):
        twice = [raters.rate(part, np.full(len(part), user), numbers) for _ in range(2)]
        if min(np.std(twice[0]), np.std(twice[1])) > 0:
            values.append(np.corrcoef(twice[0], twice[1])[0, 1])
    return float(np.mean(values))


def distinct_users(raters: Raters, expectations: Tensor, candidates: Sequence[str], count: int) -> list[str]:
    """Choose people with clearly different tastes: the most opposite pair first, then whoever is least like those chosen.

    People whose liking varies little from picture to picture are passed over: there is little to please.
    """
    rows = np.array([raters.index(user) for user in candidates])
    values = expectations[:, torch.from_numpy(rows)].numpy()
    spread = values.std(axis=0)
    keep = np.flatnonzero(spread >= np.quantile(spread, 0.5))
    likeness = np.corrcoef(values[:, keep].T)
    first, second = np.unravel_index(likeness.argmin(), likeness.shape)
    chosen = [int(first), int(second)][:count]
    while len(chosen) < count:
        worst = likeness[chosen].max(axis=0)
        worst[chosen] = np.inf
        chosen.append(int(worst.argmin()))
    return [candidates[keep[row]] for row in chosen]
