"""Fit nearest users: everybody's surface, and the neighbourhood that suits newcomers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from pamela_rl.rewards.baselines.nearest_users import NearestUsers, Neighbourhood
from pamela_rl.rewards.baselines.population_baselines import fit_population_regression, require_ratings
from pamela_rl.rewards.baselines.ridge import leading_axes, moments, variance_components, with_constant
from pamela_rl.rewards.preference import Observations, RatingData

NUM_AXES = 32
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
COUNTS = (5, 10, 20, 40, 80)
TEMPERATURES = (0.5, 1.0, 2.0, 4.0)
NUM_SHOWN = 15  # ratings that a pretended newcomer shows
NUM_PRETENDED = 200  # newcomers at most


def fit_nearest_users(data: RatingData, seed: int = 0) -> NearestUsers:
    """Fit everybody's ridge regression and choose penalty, number of neighbours and temperature for all.

    They are chosen on training people who are treated as newcomers: a few of their ratings are shown, they are not
    their own neighbours, and a tenth of their ratings, left out of all surfaces, is predicted. Those who are known are
    then placed by the same rule among all surfaces, their own included. Choices and demographics are not looked at.

    Args:
        data: Validation ratings tell the noise; without them the ratings left out do.
        seed: Of what is left out and shown.

    Raises:
        DataError: There are no training ratings.
    """
    require_ratings(data)
    population = fit_population_regression(data)
    rows = population.standardisation(data.pictures.features)
    axes = leading_axes(rows[data.train.images.unique()], NUM_AXES)
    kept, apart = _leave_out(data.train, seed)
    left = _Left(rows @ axes, population.line(rows), len(data.user_ids))
    rule = _choose(left, kept, apart, seed)
    surfaces = left.surfaces(rule, data.train)
    people = left.places(rule, surfaces, data.train)
    if data.validation:
        noise = left.error(people, data.validation)
    elif len(apart):
        noise = left.error(left.places(rule, left.surfaces(rule, kept), kept), apart)
    else:  # one rating each: nothing tells noise from taste
        noise = rule.noise_variance**0.5
    return NearestUsers(population, axes, rule, surfaces, data.user_ids, people, noise)


@dataclass(frozen=True)
class _Left:
    """What the population's regression leaves to be explained.

    Attributes:
        design: All pictures along the axes, ``(pictures, q)``.
        line: What the population's regression says of them, ``(pictures,)``.
        num_users: People, with or without ratings.
    """

    design: Tensor
    line: Tensor
    num_users: int

    def of(self, ratings: Observations) -> Tensor:
        """Return what is left of ratings, ``(n,)``."""
        return ratings.ratings.double() - self.line[ratings.images]

    def surfaces(self, rule: Neighbourhood, ratings: Observations) -> Tensor:
        """Return the surfaces of those who rated something, in the order of users, ``(p, q)``."""
        design = self.design[ratings.images]
        users = ratings.users.unique()
        gram, moment = moments(with_constant(design), self.of(ratings), ratings.users, self.num_users)
        return rule.surfaces(gram[users], moment[users])

    def places(self, rule: Neighbourhood, surfaces: Tensor, ratings: Observations) -> Tensor:
        """Return everybody's bias and surface among these surfaces, ``(u, 1 + q)``."""
        left = self.of(ratings)
        mine = [(ratings.users == user).nonzero().squeeze(-1) for user in range(self.num_users)]
        return torch.stack([rule.place(surfaces, self.design[ratings.images[rows]], left[rows]) for rows in mine])

    def error(self, people: Tensor, ratings: Observations) -> float:
        """Return the root mean squared error given everybody's bias and surface, ``(u, 1 + q)``."""
        bias, surface = people[ratings.users, 0], people[ratings.users, 1:]
        bent = bias + (surface * self.design[ratings.images]).sum(dim=1)
        return float((self.of(ratings) - bent).square().mean().sqrt())


def _leave_out(ratings: Observations, seed: int) -> tuple[Observations, Observations]:
    """Set one of ten ratings of each person apart, at least one of those who have two."""
    order = torch.randperm(len(ratings), generator=torch.Generator().manual_seed(seed))
    apart = torch.zeros(len(ratings), dtype=torch.bool)
    for user in ratings.users.unique().tolist():
        mine = order[ratings.users[order] == user]
        apart[mine[: -(-len(mine) // 10) if len(mine) > 1 else 0]] = True
    return ratings[~apart], ratings[apart]


def _choose(left: _Left, kept: Observations, apart: Observations, seed: int) -> Neighbourhood:
    """Return the rule under which pretended newcomers are predicted best."""
    within, between = variance_components(left.of(kept), kept.users)
    best, chosen = (
        float("inf"),
        Neighbourhood(PENALTIES[0], COUNTS[0], 1.0, within, within / max(between, 1e-3 * within)),
    )
    if not len(apart):
        return chosen
    newcomers, asked, few = _pretend(kept, apart, seed)
    candidates = kept.users.unique()
    for penalty in PENALTIES:
        rule = replace(chosen, penalty=penalty)
        surfaces = left.surfaces(rule, kept)
        compared = [rule.compare(surfaces, left.design[shown.images], left.of(shown)) for shown in few]
        biases, misfits = (torch.stack(part) for part in zip(*compared))
        misfits[newcomers[:, None] == candidates] = torch.inf  # nobody is their own neighbour
        for count, temperature in product(COUNTS, TEMPERATURES):
            rule = replace(rule, count=count, temperature=temperature)
            error = left.error(rule.blend(surfaces, biases, misfits), asked)
            if error < best:
                best, chosen = error, rule
    return chosen


def _pretend(kept: Observations, apart: Observations, seed: int) -> tuple[Tensor, Observations, list[Observations]]:
    """Return some people, the ratings of theirs to predict (users count these people), and those that each shows."""
    generator = torch.Generator().manual_seed(seed)
    raters = apart.users.unique()
    newcomers = raters[torch.randperm(len(raters), generator=generator)[:NUM_PRETENDED]].sort().values
    asked = apart[torch.isin(apart.users, newcomers)]
    few = []
    for user in newcomers.tolist():
        mine = (kept.users == user).nonzero().squeeze(-1)
        few.append(kept[mine[torch.randperm(len(mine), generator=generator)[:NUM_SHOWN]]])
    return newcomers, replace(asked, users=torch.searchsorted(newcomers, asked.users)), few
