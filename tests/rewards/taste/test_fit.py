from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import normalize

from pamela_rl.agreement.per_user import agreement
from pamela_rl.data.ratings import RatingScale
from pamela_rl.errors import DataError
from pamela_rl.rewards.encoders.features import encode_all
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import ChoiceTensors, ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.taste.evidence import LOGISTIC
from pamela_rl.rewards.taste.fit import MANY_IMAGES, MANY_PEOPLE, TasteBasisConfig, fit_network, fit_taste_basis
from pamela_rl.rewards.taste.kernel_features import KernelFeatures
from pamela_rl.rewards.taste.posterior import Posterior
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.world.ratings import WorldRatings

NETWORK = TasteBasisConfig(taste_dim=2, hidden_dim=32, num_layers=2, dropout=0.0, num_steps=60, learning_rate=1e-2)
SHORT = replace(NETWORK, num_steps=4)
USERS = tuple(f"u{number}" for number in range(30))
SLIDER = RatingScale(-20, 20, step=0)
NONE = RatingTensors(*(torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros(0, dtype=torch.float64))
CAREFUL, CARELESS = 0.2, 0.8  # noise of the first fifteen people, and of the others


def directions(features: Tensor) -> Tensor:
    """Return features of one length, as encoders make them."""
    return (normalize(features, dim=1) * features.shape[1] ** 0.5).float()


class Toy:
    """People who like one feature and differ over another; half of them answer carelessly."""

    def __init__(self, num_images: int = 80, misfit: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator, dtype=torch.float64)

        self.features, self.liking = directions(normal(num_images, 6)), normal(30)
        self.fresh = directions(normal(100, 6))
        self.noise = torch.tensor([CAREFUL, CARELESS], dtype=torch.float64).repeat_interleave(15)
        users = torch.arange(30).repeat_interleave(num_images)
        images = torch.arange(num_images).repeat(30)
        self.opinions = self.truth(self.features) + misfit * normal(num_images, 30)
        given = self.opinions[images, users] + self.noise[users] * normal(len(users))
        again = self.opinions[images, users] + self.noise[users] * normal(len(users))
        self.ratings = RatingTensors(users, images, given)
        self.twice = RatingTensors(users.repeat(2), images.repeat(2), torch.cat([given, again]))
        first, second = torch.randint(num_images, (2, 30 * 40), generator=generator)
        users = torch.arange(30).repeat_interleave(40)
        lead = (self.opinions[first, users] - self.opinions[second, users]) / (2**0.5 * self.noise[users] / LOGISTIC)
        chosen = torch.rand(len(users), generator=generator, dtype=torch.float64) < lead.sigmoid()
        self.choices = ChoiceTensors(users, first, second, chosen.double())

    def truth(self, features: Tensor) -> Tensor:
        """Everybody's opinion of each picture, ``(n, u)``."""
        return 3 + 0.5 * features[:, :1].double() + features[:, 1:2].double() * self.liking

    def data(self, train: RatingTensors | None = None, choices: ChoiceTensors | None = None) -> RatingData:
        given = self.ratings if train is None else train
        return RatingData(ImageFeatures(self.features), given, USERS, choices=choices, scale=SLIDER)

    def found(self, basis: TasteBasis) -> float:
        """Rank correlation with the truth on new pictures, the mean over people."""
        predicted, truth = basis.predict_all_users(ImageFeatures(self.fresh)), self.truth(self.fresh)
        return float(np.mean([spearmanr(predicted[:, user], truth[:, user])[0] for user in range(30)]))


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="module")
def toy_basis(toy: Toy) -> TasteBasis:
    return fit_taste_basis(toy.data())


@pytest.fixture(scope="module")
def network_basis(toy: Toy) -> TasteBasis:
    return fit_network(toy.data(), NETWORK)


@pytest.mark.parametrize("kind", ["toy_basis", "network_basis"])
def test_a_toy_taste_is_found_on_new_pictures(toy: Toy, kind: str, request: pytest.FixtureRequest) -> None:
    basis = request.getfixturevalue(kind)
    truth = toy.truth(toy.fresh)
    error = (basis.predict_all_users(ImageFeatures(toy.fresh)) - truth).square().mean().sqrt()
    population = (basis.predict_population(ImageFeatures(toy.fresh))[:, None] - truth).square().mean().sqrt()
    assert error < (0.21 if kind == "toy_basis" else 0.35)
    assert population > 0.7
    assert toy.found(basis) > 0.93


@pytest.mark.parametrize(("with_ratings", "least"), [(False, 0.85), (True, 0.92)])
def test_a_toy_taste_is_found_from_choices_alone_and_beside_ratings(toy: Toy, with_ratings: bool, least: float) -> None:
    train = toy.ratings[torch.arange(0, len(toy.ratings), 13)] if with_ratings else NONE
    basis = fit_taste_basis(toy.data(train, toy.choices))
    assert toy.found(basis) > least
    if with_ratings:
        assert toy.found(basis) > toy.found(fit_taste_basis(toy.data(train)))
        assert float(basis.predict_all_users(ImageFeatures(toy.fresh)).mean()) == pytest.approx(
            3, abs=0.3
        )  # in rating points


def test_careless_people_are_told_from_careful_ones(toy_basis: TasteBasis) -> None:
    std = toy_basis.noise_std(USERS)
    careful, careless = std[:15], std[15:]
    assert careful.max() < careless.min()
    assert float(careful.mean()) == pytest.approx(CAREFUL, rel=0.15)
    assert float(careless.mean()) == pytest.approx(CARELESS, rel=0.1)
    assert toy_basis.noise.misfit == 0.0  # without repeats there is nothing to tell the two apart by


def test_a_newcomers_noise_is_drawn_from_the_others(toy: Toy, toy_basis: TasteBasis) -> None:
    logs = toy.noise.square().log()
    assert toy_basis.noise.log_mean == pytest.approx(float(logs.mean()), abs=0.2)
    assert toy_basis.noise.log_std == pytest.approx(float(logs.std(correction=0)), rel=0.2)


def test_repeats_tell_the_noise_from_what_no_features_foretell() -> None:
    toy = Toy(60, misfit=0.5)
    basis = fit_taste_basis(toy.data(toy.twice))
    assert basis.noise.misfit**0.5 == pytest.approx(0.5, rel=0.1)
    std = basis.noise_std(USERS)
    assert float(std[:15].mean()) == pytest.approx(CAREFUL, rel=0.15)
    assert float(std[15:].mean()) == pytest.approx(CARELESS, rel=0.15)


@pytest.mark.parametrize(("scale", "step"), [(RatingScale(-20, 20), 1.0), (RatingScale(-20, 20, 3), 3.0)])
def test_nobodys_noise_is_below_what_rounding_to_the_scale_adds(toy: Toy, scale: RatingScale, step: float) -> None:
    noise = fit_taste_basis(replace(toy.data(), scale=scale)).noise
    assert noise.floor == pytest.approx(step**2 / 12)
    assert noise.variances.min() > step**2 / 12
    assert noise.levels()[0].min() > step**2 / 12


def test_everyones_posterior_is_what_their_ratings_teach(toy: Toy, network_basis: TasteBasis) -> None:
    basis = network_basis
    for row in (0, 7, 29):
        mine = toy.ratings.users == row
        shared, design = (part.double() for part in basis.network(toy.features[toy.ratings.images[mine]]))
        level, certain = basis.noise.variances[row : row + 1], torch.zeros(1, dtype=torch.float64)
        prior = Posterior(
            level, certain, basis.demographic_effects[:, 0][None], basis.prior_covariance[None], basis.noise.misfit
        )
        alone = prior.observe_ratings(design, toy.ratings.ratings[mine] - shared)
        torch.testing.assert_close(basis.means[row], alone.mean, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(basis.covariances[row], alone.covariance, atol=1e-6, rtol=1e-6)


def test_few_images_can_be_known_by_their_numbers_alone() -> None:
    numbers = np.random.default_rng(0)
    quality, kind, liking = numbers.normal(size=40), numbers.normal(size=40), numbers.normal(size=60)
    truth = 3 + quality + np.outer(liking, kind)
    support = np.stack([numbers.permutation(40)[:30] for _ in range(60)])
    users, images = np.repeat(np.arange(60), 30), support.ravel()
    given = truth[users, images] + 0.3 * numbers.normal(size=len(users))
    names = tuple(map(str, range(60)))
    train = RatingTensors(*map(torch.from_numpy, (users, images, given)))
    basis = fit_taste_basis(RatingData(ImageFeatures(torch.eye(40)), train, names, scale=SLIDER))
    predicted = basis.predict_all_users(ImageFeatures(torch.eye(40))).numpy()
    apart = [np.setdiff1d(np.arange(40), mine) for mine in support]
    personal = [spearmanr(predicted[rest, user], truth[user, rest])[0] for user, rest in enumerate(apart)]
    mean = [spearmanr(truth[:, rest].mean(axis=0), truth[user, rest])[0] for user, rest in enumerate(apart)]
    assert np.mean(personal) > 0.9
    assert np.mean(mean) < 0.8


def test_few_images_get_a_gaussian_process_and_many_a_network(toy_basis: TasteBasis) -> None:
    assert isinstance(toy_basis.network, KernelFeatures)
    images = torch.arange(2 * MANY_IMAGES) % MANY_IMAGES
    users = torch.arange(2 * MANY_IMAGES) % MANY_PEOPLE
    train = RatingTensors(users, images, torch.randn(2 * MANY_IMAGES, dtype=torch.float64))
    many = RatingData(ImageFeatures(torch.randn(MANY_IMAGES, 3)), train, tuple(map(str, range(MANY_PEOPLE))))
    fitted = fit_taste_basis(many)
    assert not isinstance(fitted.network, KernelFeatures)


def test_the_same_seed_fits_the_same_reward_and_leaves_the_callers_randomness_alone(toy: Toy) -> None:
    config, image_features = replace(SHORT, dropout=0.3), ImageFeatures(toy.fresh)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fit_network(toy.data(), config)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = fit_network(toy.data(), config)
    assert torch.equal(first.predict_all_users(image_features), again.predict_all_users(image_features))
    assert torch.equal(first.noise.variances, again.noise.variances)
    other = fit_network(toy.data(), replace(config, seed=1))
    assert not torch.equal(first.predict_all_users(image_features), other.predict_all_users(image_features))


def test_missing_demographics_are_ordinary(toy: Toy) -> None:
    demographics = pd.DataFrame({"age": [30.0, None, 50.0], "gender": [None, "f", "m"]}, index=list(USERS[:3]))
    basis = fit_network(replace(toy.data(), demographics=demographics), SHORT)
    assert basis.predict_all_users(ImageFeatures(toy.fresh)).isfinite().all()
    assert basis.demographic_effects.shape == (3, 4)
    for reported in (None, {}, {"age": None}, {"age": 40, "gender": "unheard of"}):
        assert basis.prior(reported).mean.isfinite().all()


def test_what_people_who_are_not_fitted_report_is_not_looked_at(toy: Toy) -> None:
    demographics = pd.DataFrame({"age": [30.0, 50.0]}, index=list(USERS[:2]))
    more = pd.concat([demographics, pd.DataFrame({"age": [900.0]}, index=["stranger"])])
    one, other = (fit_network(replace(toy.data(), demographics=part), SHORT) for part in (demographics, more))
    assert one.coding == other.coding


def test_a_feature_that_never_varied_in_training_does_not_shout_later(toy: Toy) -> None:
    features = toy.features.clone()
    features[:, 5] = 0.25
    data = replace(toy.data(), images=ImageFeatures(features))
    for basis in (fit_network(data, SHORT), fit_taste_basis(data)):
        moved = features.clone()
        moved[:, 5] += 1e-3
        scores, before = basis.predict_all_users(ImageFeatures(moved)), basis.predict_all_users(ImageFeatures(features))
        torch.testing.assert_close(scores, before, atol=0.005, rtol=0)


def split(toy: Toy) -> tuple[RatingTensors, RatingTensors]:
    """Ratings of the first 60 pictures, and of the other 20."""
    apart = toy.ratings.images >= 60
    return toy.ratings[~apart], toy.ratings[apart]


@pytest.mark.parametrize("validated", [False, True])
def test_pictures_that_are_neither_trained_on_nor_validated_change_nothing(toy: Toy, validated: bool) -> None:
    train, held_out = split(toy)
    held_out = held_out[held_out.images < 70]
    config = SHORT
    data = replace(toy.data(train), validation=held_out if validated else None)
    others = toy.features.clone()
    others[70 if validated else 60 :] = 1000 * torch.randn(10 if validated else 20, 6)
    more = ImageFeatures(torch.cat([others, 1000 * torch.randn(7, 6)]))
    first, again = fit_network(data, config), fit_network(replace(data, images=more), config)
    assert torch.equal(
        first.predict_all_users(ImageFeatures(toy.fresh)), again.predict_all_users(ImageFeatures(toy.fresh))
    )
    assert torch.equal(first.noise.variances, again.noise.variances)


def test_features_are_standardised_by_the_training_pictures_alone(toy: Toy) -> None:
    train, held_out = split(toy)
    features = toy.features.clone()
    features[60:] += 5
    data = replace(
        toy.data(train), images=ImageFeatures(features), validation=replace(held_out, ratings=held_out.ratings + 9)
    )
    network = fit_network(data, SHORT).network
    support = features[:60].numpy()
    np.testing.assert_allclose(network.feature_mean, support.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(network.feature_std, support.std(axis=0), rtol=1e-5)
    assert float(network.rating_mean) == pytest.approx(float(train.ratings.mean()))
    assert float(network.rating_std) == pytest.approx(float(train.ratings.std(correction=0)))


def test_what_is_held_out_for_want_of_validation_does_not_standardise(toy: Toy) -> None:
    basis = fit_network(toy.data(), SHORT)
    gaps = (toy.features.mean(dim=0) - basis.network.feature_mean).abs().max()
    assert gaps > 1e-3  # eight of the eighty pictures were set apart


def test_validation_ratings_choose_when_to_stop(toy: Toy) -> None:
    """Trained on noise alone, every step after the first look is one too many."""
    train, held_out = split(toy)
    noise = replace(train, ratings=3 + torch.randn(len(train)).double())
    truth = replace(held_out, ratings=torch.full((len(held_out),), 3.0).double())
    long = replace(NETWORK, num_steps=200, learning_rate=3e-2)
    stopped = fit_network(replace(toy.data(noise), validation=truth), long)
    shared, _ = stopped.network(toy.fresh)
    assert float((shared - 3).abs().mean()) < 0.15


def test_people_who_said_nothing_have_the_usual_noise(toy: Toy) -> None:
    """Somebody with a single careful rating, or none, is no reason to think people differ more in noise."""
    basis = fit_taste_basis(replace(toy.data(), user_ids=(*USERS, "mute")))
    usual = float(np.exp(basis.noise.log_mean)) + basis.noise.floor
    assert float(basis.noise_std(["mute"]) ** 2) == pytest.approx(usual, rel=1e-6)
    torch.testing.assert_close(basis.posterior("mute").mean, basis.prior().mean)


@pytest.mark.parametrize("which", ["train", "validation"])
def test_without_ratings_there_is_nothing_to_fit(toy: Toy, which: str) -> None:
    parts = (NONE, toy.ratings) if which == "train" else (toy.ratings, NONE)
    with pytest.raises(DataError, match=r"there are \d+ training and \d+ validation ratings; both are needed"):
        fit_network(replace(toy.data(parts[0]), validation=parts[1]), SHORT)
    with pytest.raises(DataError, match="no training ratings and no choices"):
        fit_taste_basis(toy.data(NONE))


def test_a_single_picture_leaves_a_network_nothing_to_learn_from(toy: Toy) -> None:
    with pytest.raises(DataError, match=r"there are 0 training and 30 validation ratings; both are needed"):
        fit_network(toy.data(toy.ratings[toy.ratings.images == 3]), SHORT)


def test_a_fit_that_takes_no_time_shows_no_bar(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    fit_network(toy.data(), SHORT)
    assert capsys.readouterr().err == ""


def test_the_worlds_people_are_better_served_by_their_own_reward_than_by_everybodys(
    world_reward: PersonalReward, world_ratings: WorldRatings
) -> None:
    table = world_ratings.table[world_ratings.table["split"] == "test_seen"]
    first = int(table["image_index"].min())  # the test images are the last
    encoded = encode_all(world_reward.encoder, world_ratings.images[first:], world_ratings.prompts[first:])
    image_features = ImageFeatures(encoded[torch.tensor(table["image_index"].tolist()) - first])
    given, users = table["rating"].to_numpy(dtype=np.float64), table["user_index"].to_numpy()
    own = world_reward.model.predict(image_features, table["user_id"].tolist()).mean.double().numpy()
    everybodys = world_reward.model.predict_population(image_features).double().numpy()
    personal, population = agreement("own", own, given, users), agreement("everybody's", everybodys, given, users)
    assert personal.srocc[1] > population.srocc[2] + 0.1
    assert personal.pairwise[1] > population.pairwise[2]
