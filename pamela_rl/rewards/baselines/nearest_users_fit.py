"""Fitting of the nearest-users baseline: slopes of all users, and the hyperparameters of the neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from pamela_rl.rewards.baselines.nearest_users import NearestUsers, Neighbourhood
from pamela_rl.rewards.baselines.population_baselines import fit_population_regression, require_ratings
from pamela_rl.rewards.baselines.ridge import leading_axes, moments, variance_components, with_constant
from pamela_rl.rewards.preference import RatingData, RatingTensors

NUM_AXES = 32
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
COUNTS = (5, 10, 20, 40, 80)
TEMPERATURES = (0.5, 1.0, 2.0, 4.0)
NUM_SUPPORT = 15  # ratings of a simulated newcomer that are given
NUM_SIMULATED = 200  # simulated newcomers at most


def fit_nearest_users(data: RatingData, seed: int = 0) -> NearestUsers:
    """Fit a ridge regression for each user, and choose penalty, number of neighbours and temperature.

    These are chosen on training users who are treated as newcomers: a few of their ratings are given, they are
    excluded from their own neighbours, and a tenth of their ratings, which no regression was fitted on, is predicted.
    Known users are then fitted by the same rule, with themselves among the candidates. Choices and demographics are
    ignored.

    Args:
        data: The noise is measured on the validation ratings, or without them on the held-out ratings.
        seed: Of what is held out and given.

    Raises:
        DataError: There are no training ratings.
    """
    require_ratings(data)
    population = fit_population_regression(data)
    rows = population.standardisation(data.images.features)
    axes = leading_axes(rows[data.train.images.unique()], NUM_AXES)
    kept, held_out = _hold_out(data.train, seed)
    residuals = _Residuals(rows @ axes, population.predict_standardised(rows), len(data.user_ids))
    rule = _choose(residuals, kept, held_out, seed)
    slopes = residuals.slopes(rule, data.train)
    user_weights = residuals.fit_users(rule, slopes, data.train)
    if data.validation:
        noise = residuals.error(user_weights, data.validation)
    elif len(held_out):
        noise = residuals.error(residuals.fit_users(rule, residuals.slopes(rule, kept), kept), held_out)
    else:  # with one rating each, noise and taste cannot be separated
        noise = rule.noise_variance**0.5
    return NearestUsers(population, axes, rule, slopes, data.user_ids, user_weights, noise)


@dataclass(frozen=True)
class _Residuals:
    """Residuals of the population regression.

    Attributes:
        design: All pictures along the axes, ``(images, q)``.
        population: Their ratings by the population regression, ``(images,)``.
        num_users: Number of users, with or without ratings.
    """

    design: Tensor
    population: Tensor
    num_users: int

    def of(self, ratings: RatingTensors) -> Tensor:
        """Return the ratings minus the population regression, ``(n,)``."""
        return ratings.ratings.double() - self.population[ratings.images]

    def slopes(self, rule: Neighbourhood, ratings: RatingTensors) -> Tensor:
        """Return the slopes of the users with ratings, in the order of users, ``(p, q)``."""
        design = self.design[ratings.images]
        users = ratings.users.unique()
        gram, moment = moments(with_constant(design), self.of(ratings), ratings.users, self.num_users)
        return rule.slopes(gram[users], moment[users])

    def fit_users(self, rule: Neighbourhood, slopes: Tensor, ratings: RatingTensors) -> Tensor:
        """Return bias and slopes of all users with these candidates, ``(u, 1 + q)``."""
        residuals = self.of(ratings)
        rows_of_user = [(ratings.users == user).nonzero().squeeze(-1) for user in range(self.num_users)]
        return torch.stack(
            [rule.fit_user(slopes, self.design[ratings.images[rows]], residuals[rows]) for rows in rows_of_user]
        )

    def error(self, user_weights: Tensor, ratings: RatingTensors) -> float:
        """Return the root mean squared error given bias and slopes of all users, ``(u, 1 + q)``."""
        bias, slope = user_weights[ratings.users, 0], user_weights[ratings.users, 1:]
        offset = bias + (slope * self.design[ratings.images]).sum(dim=1)
        return float((self.of(ratings) - offset).square().mean().sqrt())


def _hold_out(ratings: RatingTensors, seed: int) -> tuple[RatingTensors, RatingTensors]:
    """Hold out a tenth of each user's ratings, at least one if there are two."""
    order = torch.randperm(len(ratings), generator=torch.Generator().manual_seed(seed))
    held_out = torch.zeros(len(ratings), dtype=torch.bool)
    for user in ratings.users.unique().tolist():
        rows_of_user = order[ratings.users[order] == user]
        held_out[rows_of_user[: -(-len(rows_of_user) // 10) if len(rows_of_user) > 1 else 0]] = True
    return ratings[~held_out], ratings[held_out]


def _choose(residuals: _Residuals, kept: RatingTensors, held_out: RatingTensors, seed: int) -> Neighbourhood:
    """Return the hyperparameters with the lowest error on simulated newcomers."""
    within, between = variance_components(residuals.of(kept), kept.users)
    best, chosen = (
        float("inf"),
        Neighbourhood(PENALTIES[0], COUNTS[0], 1.0, within, within / max(between, 1e-3 * within)),
    )
    if not len(held_out):
        return chosen
    newcomers, query, support = _simulate_newcomers(kept, held_out, seed)
    candidates = kept.users.unique()
    for penalty in PENALTIES:
        rule = replace(chosen, penalty=penalty)
        slopes = residuals.slopes(rule, kept)
        compared = [
            rule.compare(slopes, residuals.design[ratings.images], residuals.of(ratings)) for ratings in support
        ]
        biases, losses = (torch.stack(part) for part in zip(*compared))
        losses[newcomers[:, None] == candidates] = torch.inf  # exclude each newcomer from their own neighbours
        for count, temperature in product(COUNTS, TEMPERATURES):
            rule = replace(rule, count=count, temperature=temperature)
            error = residuals.error(rule.blend(slopes, biases, losses), query)
            if error < best:
                best, chosen = error, rule
    return chosen


def _simulate_newcomers(
    kept: RatingTensors, held_out: RatingTensors, seed: int
) -> tuple[Tensor, RatingTensors, list[RatingTensors]]:
    """Return simulated newcomers, their ratings to predict (with rows of these users), and each one's given ratings."""
    generator = torch.Generator().manual_seed(seed)
    raters = held_out.users.unique()
    newcomers = raters[torch.randperm(len(raters), generator=generator)[:NUM_SIMULATED]].sort().values
    query = held_out[torch.isin(held_out.users, newcomers)]
    support = []
    for user in newcomers.tolist():
        rows_of_user = (kept.users == user).nonzero().squeeze(-1)
        support.append(kept[rows_of_user[torch.randperm(len(rows_of_user), generator=generator)[:NUM_SUPPORT]]])
    return newcomers, replace(query, users=torch.searchsorted(newcomers, query.users)), support
