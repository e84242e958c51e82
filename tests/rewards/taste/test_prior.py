from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

from pamela_rl.rewards.preference import ChoiceTensors, ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.prior import fit_prior
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures

WIDTH = 3
PRIOR_MAP = torch.tensor([[0.5, -0.4], [1.0, 0.6], [-0.7, 0.0]], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.50, 0.20, 0.0], [0.20, 0.60, -0.25], [0.0, -0.25, 0.40]], dtype=torch.float64)


class World:
    """Made-up people over a network that is known: their tastes follow age, and each has a noise of their own."""

    def __init__(self, num_users: int, num_images: int, misfit: float = 0.0):
        torch.manual_seed(3)
        self.network = TasteFeatures(6, WIDTH - 1, hidden_dim=16).eval().requires_grad_(False)
        self.image_features = ImageFeatures(torch.randn(num_images, 6))
        self.network.taste.weight.div_(self.network(self.image_features.features)[1][:, 1:].std(dim=0)[:, None])
        self.shared, self.design = (part.double() for part in self.network(self.image_features.features))
        age = torch.randn(num_users, dtype=torch.float64)
        age = (age - age.mean()) / age.std(correction=0)
        self.names = tuple(map(str, range(num_users)))
        self.demographics = pd.DataFrame({"age": age.numpy()}, index=list(self.names))
        reported = torch.stack([torch.ones_like(age), age], dim=1)
        root = torch.linalg.cholesky(COVARIANCE)
        self.tastes = reported @ PRIOR_MAP.T + torch.randn(num_users, WIDTH).double() @ root.T
        self.variances = torch.exp(-0.7 + 0.5 * torch.randn(num_users).double())
        opinions = self.shared + self.tastes @ self.design.T
        self.opinions = opinions + misfit**0.5 * torch.randn(num_users, num_images).double()

    def rate(self, users: Tensor, images: Tensor) -> RatingTensors:
        noise = self.variances[users].sqrt() * torch.randn(len(users)).double()
        return RatingTensors(users, images, self.opinions[users, images] + noise)

    def everyone(self, low: int, high: int, repeats: int = 1) -> RatingTensors:
        """Everybody rates the pictures from ``low`` to ``high``, each several times."""
        count = len(self.names)
        images = torch.arange(low, high).repeat(count * repeats)
        return self.rate(torch.arange(count).repeat_interleave((high - low) * repeats), images)

    def data(self, train: RatingTensors, **more: ChoiceTensors) -> RatingData:
        return RatingData(self.image_features, train, self.names, demographics=self.demographics, **more)

    def noise(self, factor: float = 1.0, misfit: float = 0.0) -> Noise:
        return Noise(factor * self.variances, misfit, -0.7 + math.log(factor), 0.5, 0.0)


def coverage(world: World, basis: TasteBasis, held_out: RatingTensors, share: float = 0.8) -> float:
    names = [world.names[int(user)] for user in held_out.users]
    output, noise = basis.predict(world.image_features[held_out.images], names), basis.noise_std(names)
    assert output.std is not None
    off = (held_out.ratings - output.mean).abs() / torch.hypot(output.std.double(), noise)
    return float((off < stats.norm.ppf(0.5 + share / 2)).double().mean())


def test_expectation_maximisation_recovers_the_prior_of_made_up_people() -> None:
    num_users, count = 3000, 8  # so few ratings that a posterior is far from a point
    world = World(num_users, 400)
    users = torch.arange(num_users).repeat_interleave(count)
    data = world.data(world.rate(users, torch.randint(400, (num_users * count,))))
    basis = fit_prior(world.network, data, data, None, world.noise())
    # 3,000 people: three standard errors of a mean and of a variance of about 0.5 are 0.04
    torch.testing.assert_close(basis.demographic_effects, PRIOR_MAP, atol=0.05, rtol=0)
    torch.testing.assert_close(basis.prior_covariance, COVARIANCE, atol=0.05, rtol=0)
    # a posterior is honest: the truth lies within its 95 % ellipsoid 95 times in a hundred
    off = (world.tastes - basis.means)[:, :, None]
    squares = (off.mT @ torch.linalg.inv(basis.covariances) @ off).flatten()
    assert (squares < stats.chi2.ppf(0.95, WIDTH)).double().mean().item() == pytest.approx(0.95, abs=0.015)
    assert torch.equal(basis.noise.variances, world.variances)  # nothing was held out to correct it by


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.0])
def test_without_repeats_held_out_pictures_correct_the_size_of_the_noise(factor: float) -> None:
    world = World(150, 45)
    train, held_out, fresh = world.everyone(0, 20), world.everyone(20, 30), world.everyone(30, 45)
    data = world.data(train)
    basis = fit_prior(world.network, data, data, held_out, world.noise(factor))
    torch.testing.assert_close(basis.noise.variances, world.variances, rtol=0.15, atol=0)
    assert basis.noise.log_mean == pytest.approx(-0.7, abs=0.15)
    assert basis.noise.misfit == 0.0
    assert coverage(world, basis, fresh) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("misfit", [0.0, 0.3])
def test_with_repeats_they_tell_what_the_basis_cannot_express_from_the_noise(misfit: float) -> None:
    world = World(150, 45, misfit)
    train, held_out, fresh = world.everyone(0, 20, repeats=2), world.everyone(20, 30, repeats=2), world.everyone(30, 45)
    data = world.data(train)
    basis = fit_prior(world.network, data, data, held_out, world.noise(misfit=0.1))
    assert basis.noise.misfit == pytest.approx(misfit, rel=0.25, abs=0.03)
    assert torch.equal(basis.noise.variances, world.variances)
    assert coverage(world, basis, fresh) == pytest.approx(0.8, abs=0.03)


def test_people_who_said_nothing_are_as_their_demographics_say() -> None:
    world = World(60, 30)
    train = world.everyone(0, 30)
    data = world.data(train[train.users != 7])
    basis = fit_prior(world.network, data, data, None, world.noise())
    torch.testing.assert_close(basis.means[7], basis.prior(data.demographics_of("7")).mean)
    torch.testing.assert_close(basis.covariances[7], basis.prior_covariance)
    assert len(basis.means) == 60
    assert np.linalg.norm(basis.means[8] - world.tastes[8]) < 0.5 * np.linalg.norm(basis.means[7] - world.tastes[8])


def test_tastes_are_learned_from_everything_the_network_and_the_noise_from_a_part() -> None:
    world = World(60, 40)
    train, held_out = world.everyone(0, 20), world.everyone(20, 40)
    parts = [torch.cat(pair) for pair in zip(*((p.users, p.images, p.ratings) for p in (train, held_out)), strict=True)]
    learnt, data = world.data(train), world.data(RatingTensors(*parts))
    less, more = (fit_prior(world.network, learnt, given, held_out, world.noise()) for given in (learnt, data))
    assert torch.equal(less.noise.variances, more.noise.variances)
    assert more.covariances.diagonal(dim1=1, dim2=2).sum() < 0.8 * less.covariances.diagonal(dim1=1, dim2=2).sum()
    errors = [float((basis.means - world.tastes).square().mean()) for basis in (less, more)]
    assert errors[1] < 0.8 * errors[0]


def test_choices_find_the_prior_too() -> None:
    num_users, count = 400, 25
    world = World(num_users, 60)
    users = torch.arange(num_users).repeat_interleave(count)
    first, second = torch.randint(60, (2, num_users * count))
    lead = world.opinions[users, first] - world.opinions[users, second]
    spread = (2 * world.variances[users]).sqrt()
    outcomes = (lead + spread * torch.randn(len(users)).double() > 0).double()  # of two ratings with their noise
    none = RatingTensors(users[:0], users[:0], outcomes[:0])
    data = world.data(none, choices=ChoiceTensors(users, first, second, outcomes))
    basis = fit_prior(world.network, data, data, None, world.noise())
    torch.testing.assert_close(basis.demographic_effects[1:], PRIOR_MAP[1:], atol=0.15, rtol=0)
    torch.testing.assert_close(basis.demographic_effects[0], torch.zeros(2).double())  # choices say nothing of kindness
    # the bound is too sure of itself, so that the spread of tastes comes out small
    shrunk = basis.prior_covariance[1:, 1:] / COVARIANCE[1:, 1:]
    assert 0.25 < shrunk.min() <= shrunk.max() < 1.1
    found = np.corrcoef(torch.cat([basis.means[:, 1:], world.tastes[:, 1:]], dim=1).T)[:2, 2:].diagonal()
    assert found.min() > 0.7
