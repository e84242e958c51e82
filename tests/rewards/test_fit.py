from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.agreement import agreement
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.features import encode_all
from pamela_rl.rewards.fit import Observations, TasteBasisConfig, _fit_prior, fit_taste_basis, observations
from pamela_rl.rewards.newcomer import fit_newcomer
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.taste_basis import TasteBasis, TasteFeatures
from pamela_rl.world.ratings import WorldRatings

SMALL = TasteBasisConfig(taste_dim=2, num_epochs=15, batch_size=256, learning_rate=1e-2)
USERS = tuple(f"u{number}" for number in range(30))


def toy_ratings(num_images: int = 80, seed: int = 0) -> tuple[Tensor, Observations, Tensor]:
    """People who like one feature and differ over another: features, ratings, and each person's liking."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_images, 6, generator=generator)
    liking = torch.randn(len(USERS), generator=generator)
    users = torch.arange(len(USERS)).repeat_interleave(num_images)
    images = torch.arange(num_images).repeat(len(USERS))
    noise = 0.2 * torch.randn(len(users), generator=generator)
    ratings = 3 + 0.5 * features[images, 0] + liking[users] * features[images, 1] + noise
    return features, Observations(users, images, ratings.double()), liking


def test_expectation_maximisation_recovers_the_prior_and_the_noise_of_made_up_people() -> None:
    torch.manual_seed(3)
    people, pictures, width = 3000, 8, 3  # so few ratings that a posterior is far from a point
    network = TasteFeatures(6, width - 1, hidden_dim=16).eval().requires_grad_(False)
    features = torch.randn(people * pictures, 6)
    network.taste.weight.div_(network(features)[1][:, 1:].std(dim=0)[:, None])
    age = torch.randn(people, dtype=torch.float64)
    reported = torch.stack([torch.ones_like(age), age], dim=1)
    prior_map = torch.tensor([[0.5, -0.4], [1.0, 0.6], [-0.7, 0.0]], dtype=torch.float64)
    covariance = torch.tensor([[0.50, 0.20, 0.0], [0.20, 0.60, -0.25], [0.0, -0.25, 0.40]], dtype=torch.float64)
    tastes = reported @ prior_map.T + torch.randn(people, width).double() @ torch.linalg.cholesky(covariance).T
    users = torch.arange(people).repeat_interleave(pictures)
    shared, design = network(features)
    ratings = shared + (design * tastes[users]).sum(dim=1) + 0.8 * torch.randn(len(users))
    seen = Observations(users, torch.arange(len(users)), ratings)
    names = tuple(map(str, range(people)))
    coding = DemographicsCoding({"age": (0.0, 1.0)}, {})
    basis = _fit_prior(network, features, seen, names, coding, reported, num_steps=40)
    # 3,000 people: three standard errors of a mean and of a variance of about 0.5 are 0.04
    torch.testing.assert_close(basis.prior_map, prior_map, atol=0.045, rtol=0)
    torch.testing.assert_close(basis.prior_covariance, covariance, atol=0.045, rtol=0)
    assert basis.noise_variance == pytest.approx(0.64, abs=0.015)
    # a posterior is honest: the truth lies within its 95 % ellipsoid 95 times in a hundred
    off = (tastes - basis.means)[:, :, None]
    squares = (off.transpose(1, 2) @ torch.linalg.inv(basis.covariances) @ off).flatten()
    assert (squares < 7.815).double().mean().item() == pytest.approx(0.95, abs=0.015)  # chi-square, 3 dimensions


@pytest.fixture(scope="module")
def toy_basis() -> TasteBasis:
    features, seen, _ = toy_ratings()
    return fit_taste_basis(features, seen, None, USERS, None, SMALL)


def test_everyones_posterior_is_what_their_ratings_teach_a_newcomer(toy_basis: TasteBasis) -> None:
    features, seen, _ = toy_ratings()
    for row in (0, 7, 29):
        mine = seen.users == row
        alone = fit_newcomer(toy_basis, features[seen.images[mine]], seen.ratings[mine])
        torch.testing.assert_close(toy_basis.means[row], alone.mean, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(toy_basis.covariances[row], alone.covariance, atol=1e-6, rtol=1e-6)


def test_a_toy_taste_is_found_on_new_pictures(toy_basis: TasteBasis) -> None:
    _, _, liking = toy_ratings()
    fresh, _, _ = toy_ratings(seed=1)
    truth = 3 + 0.5 * fresh[:, :1] + liking * fresh[:, 1:2]
    error = (toy_basis.scores(fresh) - truth).square().mean().sqrt()
    population = (toy_basis.predict_population(fresh)[:, None] - truth).square().mean().sqrt()
    assert error < 0.15
    assert population > 0.8
    assert toy_basis.noise_variance == pytest.approx(0.04, abs=0.01)


def test_the_same_seed_fits_the_same_reward_and_leaves_the_callers_randomness_alone() -> None:
    features, seen, _ = toy_ratings()
    short = replace(SMALL, num_epochs=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fit_taste_basis(features, seen, None, USERS, None, short)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = fit_taste_basis(features, seen, None, USERS, None, short)
    assert torch.equal(first.scores(features), again.scores(features))
    other = fit_taste_basis(features, seen, None, USERS, None, replace(short, seed=1))
    assert not torch.equal(first.scores(features), other.scores(features))


def test_missing_demographics_are_ordinary() -> None:
    features, seen, _ = toy_ratings()
    people = pd.DataFrame({"age": [30.0, None, 50.0], "gender": [None, "f", "m"]}, index=list(USERS[:3]))
    basis = fit_taste_basis(features, seen, None, USERS, people, replace(SMALL, num_epochs=2))
    assert basis.scores(features).isfinite().all()
    assert basis.prior_map.shape == (3, 4)
    for person in (None, {}, {"age": None}, {"age": 40, "gender": "unheard of"}):
        assert basis.prior(person).mean.isfinite().all()


def test_a_feature_that_never_varied_in_training_does_not_shout_later() -> None:
    features, seen, _ = toy_ratings()
    features[:, 5] = 0.25
    basis = fit_taste_basis(features, seen, None, USERS, None, replace(SMALL, num_epochs=2))
    moved = features.clone()
    moved[:, 5] += 1e-3
    torch.testing.assert_close(basis.scores(moved), basis.scores(features), atol=0.005, rtol=0)


def test_features_of_pictures_that_are_not_in_training_change_nothing() -> None:
    features, seen, _ = toy_ratings()
    short = replace(SMALL, num_epochs=2)
    more = torch.cat([features, 100 * torch.randn(50, 6)])
    first = fit_taste_basis(features, seen, None, USERS, None, short)
    again = fit_taste_basis(more, seen, None, USERS, None, short)
    assert torch.equal(first.scores(features), again.scores(features))


@pytest.mark.parametrize("which", ["train", "validation"])
def test_without_ratings_there_is_nothing_to_fit(which: str) -> None:
    features, seen, _ = toy_ratings()
    none = Observations(seen.users[:0], seen.images[:0], seen.ratings[:0])
    parts = (none, seen) if which == "train" else (seen, none)
    with pytest.raises(DataError, match=r"there are \d+ training and \d+ validation ratings; both are needed"):
        fit_taste_basis(features, *parts, USERS, None, SMALL)


def test_a_fit_that_takes_no_time_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    features, seen, _ = toy_ratings()
    fit_taste_basis(features, seen, None, USERS, None, replace(SMALL, num_epochs=2))
    assert capsys.readouterr().err == ""


def test_rows_of_a_table_become_numbers() -> None:
    table = pd.DataFrame({"user_id": ["b", "a"], "image": ["y", "x"], "rating": [4, 2]}, index=[10, 3])
    seen = observations(table, ("a", "b"), {"x": 5, "y": 9})
    assert (seen.users.tolist(), seen.images.tolist(), seen.ratings.tolist()) == ([1, 0], [9, 5], [4.0, 2.0])


def test_a_rating_of_a_stranger_is_refused() -> None:
    table = pd.DataFrame({"user_id": ["b", "eve"], "image": ["x", "x"], "rating": [4, 2]})
    with pytest.raises(UnknownUserError, match=r"1 people who rated are not among the 1 to fit, e\.g\. 'eve'; leave"):
        observations(table, ("b",), {"x": 0})


def test_a_rated_picture_without_features_is_refused() -> None:
    table = pd.DataFrame({"user_id": ["b", "b"], "image": ["x", "z"], "rating": [4, 2]})
    with pytest.raises(DataError, match=r"1 rated images have no features, e\.g\. 'z'; encode them first"):
        observations(table, ("b",), {"x": 0})


def test_the_worlds_people_are_better_served_by_their_own_reward_than_by_everybodys(
    world_reward: PersonalReward, world_ratings: WorldRatings
) -> None:
    table = world_ratings.table[world_ratings.table["split"] == "test_seen"]
    first = int(table["image_index"].min())  # the test images are the last
    encoded = encode_all(world_reward.encoder, world_ratings.images[first:], world_ratings.prompts[first:])
    features = encoded[torch.tensor(table["image_index"].tolist()) - first]
    given, users = table["rating"].to_numpy(dtype=np.float64), table["user_index"].to_numpy()
    own = world_reward.basis.predict(features, table["user_id"].tolist()).mean.double().numpy()
    everybodys = world_reward.basis.predict_population(features).double().numpy()
    personal, population = agreement("own", own, given, users), agreement("everybody's", everybodys, given, users)
    assert personal.srocc[1] > population.srocc[2] + 0.1
    assert personal.pairwise[1] > population.pairwise[2]
