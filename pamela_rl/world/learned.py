"""What can be learned from the world's ratings: the personal reward, a judge kept apart from it, and how good both are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.agreement.measure import Rated, controls, introduce_all, personal_agreement
from pamela_rl.rewards.agreement.per_person import Agreement, noise_ceiling
from pamela_rl.rewards.encoders.features import FeatureEncoder, encode_all
from pamela_rl.rewards.observations import observations
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.rewards.preference import Pictures, PreferenceModel, RatingData
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

JUDGE_PEOPLE_SEED = 8  # other people than the reward learns from
JUDGE_RATINGS_SEED = 12  # other pictures, other noise
RATINGS_SHOWN_TO_JUDGE = 60  # of each person whose adapter it judges
RATINGS_SHOWN = 10  # of newcomers, before they are measured


def world_data(ratings: WorldRatings, raters: Raters, features: Tensor) -> RatingData:
    """Return what models are fitted to: the training split, and ``val_seen`` to choose by."""
    rows = {image: int(row) for image, row in zip(ratings.table["image"], ratings.table["image_index"], strict=True)}
    train, validation = (ratings.table[ratings.table["split"] == split] for split in ("train", "val_seen"))
    seen = tuple(sorted(train["user_id"].unique()))
    return RatingData(
        Pictures(features, ids=torch.arange(len(features))),
        observations(train, seen, rows),
        seen,
        observations(validation, seen, rows),
        people=raters.demographics,
    )


def fit_reward(
    ratings: WorldRatings, raters: Raters, encoder: FeatureEncoder, seed: int = 0
) -> tuple[PersonalReward, Tensor]:
    """Fit the taste basis on the training split; returns the reward and the features of all pictures, ``(n, d)``."""
    features = encode_all(encoder, ratings.images, ratings.prompts)
    model = fit_taste_basis(world_data(ratings, raters, features), seed)
    used = ratings.table[ratings.table["split"].isin(["train", "val_seen"])]
    fitted_on = FittedOn(frozenset(used["user_id"]), frozenset(used["image"]), seed)
    return PersonalReward(encoder, model, fitted_on), features


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
    results = {}
    for split in ("val_seen", "test_seen", "val_unseen", "test_unseen"):
        held = rated(ratings, features, split)
        model = knowing(reward.model, ratings, raters, features, split)
        results[split] = [
            personal_agreement("personal", model, held, RatingScale()),
            *controls(model, held, RatingScale()),
            true_ceiling(ratings, raters, split),
        ]
    return results


def rated(ratings: WorldRatings, features: Tensor, split: str) -> Rated:
    """Return one split."""
    table = ratings.table[ratings.table["split"] == split]
    rows = table["image_index"].to_numpy(copy=True)
    given = torch.from_numpy(table["rating"].to_numpy(dtype=np.float64, copy=True))
    pictures = Pictures(features[torch.from_numpy(rows)], ids=torch.from_numpy(rows))
    return Rated(pictures, given, table["user_id"].to_numpy(dtype=object), rows)


def knowing(
    model: PreferenceModel, ratings: WorldRatings, raters: Raters, features: Tensor, split: str,
    count: int = RATINGS_SHOWN,
) -> PreferenceModel:  # fmt: skip
    """Introduce the newcomers of an unseen split by ``count`` of their ratings of the other unseen split's pictures."""
    if not split.endswith("unseen"):
        return model
    shown = rated(ratings, features, "test_unseen" if split == "val_unseen" else "val_unseen")
    people = sorted(set(ratings.table.loc[ratings.table["split"] == split, "user_id"]))
    return introduce_all(model, shown, people, count, lambda user: reported(raters, user))


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
