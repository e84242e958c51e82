"""What can be learned from the world's ratings: the personal reward, a judge kept apart from it, and how good both are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pamela_rl.rewards.agreement import Agreement, agreement, mismatched, noise_ceiling
from pamela_rl.rewards.features import FeatureEncoder, encode_all
from pamela_rl.rewards.fit import TasteBasisConfig, fit_taste_basis, observations
from pamela_rl.rewards.newcomer import fit_newcomer
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

JUDGE_PEOPLE_SEED = 8  # other people than the reward learns from
JUDGE_RATINGS_SEED = 12  # other pictures, other noise
RATINGS_SHOWN_TO_JUDGE = 60  # of each person whose adapter it judges


def fit_reward(
    ratings: WorldRatings, raters: Raters, encoder: FeatureEncoder, seed: int = 0
) -> tuple[PersonalReward, Tensor]:
    """Fit the taste basis on the training split; returns the reward and the features of all pictures, ``(n, d)``."""
    features = encode_all(encoder, ratings.images, ratings.prompts)
    rows = {image: int(row) for image, row in zip(ratings.table["image"], ratings.table["image_index"], strict=True)}
    train = ratings.table[ratings.table["split"] == "train"]
    validation = ratings.table[ratings.table["split"] == "val_seen"]
    seen = tuple(sorted(train["user_id"].unique()))
    basis = fit_taste_basis(
        features,
        observations(train, seen, rows),
        observations(validation, seen, rows),
        seen,
        raters.demographics,
        TasteBasisConfig(seed=seed),
    )
    return PersonalReward(encoder, basis), features


def fit_judge(
    raters: Raters, user_ids: Sequence[str], content: ContentJudge, encoder: FeatureEncoder, num_images: int = 3_000
) -> PersonalReward:
    """Fit a second reward on other people, other pictures and another seed, then show it ``user_ids``' ratings.

    Neither a rating nor a picture the reward was fitted to is among those the judge learns from.
    """
    others = make_raters(seed=JUDGE_PEOPLE_SEED)
    ratings = make_ratings(others, content, seed=JUDGE_RATINGS_SEED, num_images=num_images)
    judge, features = fit_reward(ratings, others, encoder, seed=1)
    basis = judge.basis
    numbers = np.random.default_rng(JUDGE_RATINGS_SEED)
    for user in user_ids:
        shown = numbers.choice(len(ratings.images), RATINGS_SHOWN_TO_JUDGE, replace=False)
        prompts = [ratings.prompts[int(row)] for row in shown]
        expected = raters.true_expectations(ratings.images[torch.from_numpy(shown)], prompts, content)
        given = raters.rate(expected, np.full(len(shown), raters.index(user)), numbers)
        posterior = fit_newcomer(basis, features[torch.from_numpy(shown)], torch.from_numpy(given))
        basis = basis.with_user(user, posterior)
    return PersonalReward(encoder, basis)


def measure(
    reward: PersonalReward, features: Tensor, ratings: WorldRatings, raters: Raters
) -> dict[str, list[Agreement]]:
    """Measure the reward on the four held-out splits.

    Beside it stand the population's mean taste, a mismatched person's taste and the noise ceiling (the true
    expectation, which no model can beat but by luck). Unseen people are first shown 10 of their validation ratings.
    """
    shared, design = reward.basis.network(features.float())
    results = {}
    for split in ("val_seen", "test_seen", "val_unseen", "test_unseen"):
        table = ratings.table[ratings.table["split"] == split]
        tastes = _tastes(reward, features, ratings, raters, split)
        rows = torch.from_numpy(table["image_index"].to_numpy(copy=True))
        users = table["user_index"].to_numpy(copy=True)
        own = torch.stack([tastes[raters.user_ids[user]] for user in users])
        somebody_elses = torch.stack([tastes[raters.user_ids[user]] for user in mismatched(users)])
        base, part = shared[rows].double(), design[rows].double()
        given = table["rating"].to_numpy(dtype=np.float64)
        predictions = {
            "personal": base + (part * own).sum(1),
            "population": base + part @ reward.basis.means.mean(dim=0),
            "somebody else's": base + (part * somebody_elses).sum(1),
        }
        truth = ratings.expectations[rows, torch.from_numpy(users)].numpy()
        models = [agreement(name, value.numpy(), given, users) for name, value in predictions.items()]
        results[split] = [*models, noise_ceiling(truth, given, users)]
    return results


def _tastes(
    reward: PersonalReward, features: Tensor, ratings: WorldRatings, raters: Raters, split: str
) -> Mapping[str, Tensor]:
    basis = reward.basis
    users = sorted(ratings.table.loc[ratings.table["split"] == split, "user_id"].unique())
    if split.endswith("_seen") and not split.endswith("unseen"):
        return {user: basis.posterior(user).mean for user in users}
    source = "test_unseen" if split == "val_unseen" else "val_unseen"  # pictures of the other split
    tastes = {}
    for user in users:
        mine = ratings.table[(ratings.table["split"] == source) & (ratings.table["user_id"] == user)].head(10)
        rows = torch.from_numpy(mine["image_index"].to_numpy(copy=True))
        person: dict[str, Any] = {str(k): v for k, v in raters.demographics.loc[user].to_dict().items()}
        given = torch.from_numpy(mine["rating"].to_numpy(copy=True))
        tastes[user] = fit_newcomer(basis, features[rows], given, person).mean
    return tastes


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
