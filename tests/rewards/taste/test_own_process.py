from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.preference import ChoiceTensors, ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.taste.evidence import LOGISTIC
from pamela_rl.rewards.taste.kernel_features import JITTER, kernel, unit
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.own_process import NUM_LANDMARKS, with_own_process
from pamela_rl.rewards.taste.prior import fit_prior
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import FeaturesWithOwnProcess, TasteFeatures

PEOPLE, RATED, FRESH, DIM, NOISE = 24, 50, 100, 5, 0.09
CHOOSING = 4  # of the people; they choose, and rate a few images, while the others say nothing
NAMES = tuple(f"p{number}" for number in range(PEOPLE))
SLIDER = RatingScale(-20, 20, step=0)


class Society:
    """People who share a score, differ along one direction of the features, and have smooth tastes of their own.

    What they share is what the network knows to the letter; how much of their own they have is ``own``, a variance.
    """

    def __init__(self, own: float) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator, dtype=torch.float64)

        self.features = normal(RATED + FRESH, DIM).float()
        self.network = TasteFeatures(DIM, 1, DIM, num_layers=0).eval().requires_grad_(False)
        for layer, row in ((self.network.shared, 0), (self.network.taste, 1)):
            layer.weight.zero_()[0, row] = 0.8
            layer.bias.zero_()
        self.network.rating_mean.fill_(3.0)
        x = self.features.double()
        liking = normal(PEOPLE)
        common = 3 + 0.8 * x[:, :1] + 0.8 * x[:, 1:2] * liking + 0.3 * normal(PEOPLE)
        curved = torch.tanh(x @ normal(DIM, PEOPLE) / 1.5)
        self.opinions = common + own**0.5 * (curved - curved.mean(dim=0)) / curved.std(dim=0)
        users, images = torch.arange(PEOPLE).repeat_interleave(RATED), torch.arange(RATED).repeat(PEOPLE)
        self.train = RatingTensors(users, images, self.opinions[images, users] + NOISE**0.5 * normal(len(users)))
        first, second = torch.randint(RATED, (2, CHOOSING * 60), generator=generator)
        users = torch.arange(CHOOSING).repeat_interleave(60)
        lead = (self.opinions[first, users] - self.opinions[second, users]) / (math.sqrt(2 * NOISE) / LOGISTIC)
        chosen = torch.rand(len(users), generator=generator, dtype=torch.float64) < lead.sigmoid()
        self.choices = ChoiceTensors(users, first, second, chosen.double())
        self.fresh = ImageFeatures(self.features[RATED:])

    def data(self, choices: bool = False) -> RatingData:
        few = self.train[(self.train.images < 15) & (self.train.users < CHOOSING)] if choices else self.train
        given = self.choices if choices else None
        return RatingData(ImageFeatures(self.features), few, NAMES, choices=given, scale=SLIDER)

    def basis(self, choices: bool = False) -> TasteBasis:
        """What is known without a process of each person's own, which then counts as noise."""
        data = self.data(choices)
        noise = Noise(torch.full((PEOPLE,), NOISE, dtype=torch.float64), 0.0, math.log(NOISE), 0.3, 0.0)
        return fit_prior(self.network, data, data, None, noise)

    def found(self, basis: TasteBasis, people: int = PEOPLE) -> float:
        """Correlation with what people think of fresh images, the mean over people."""
        predicted, truth = basis.predict_all_users(self.fresh), self.opinions[RATED:]
        return float(np.mean([np.corrcoef(predicted[:, user], truth[:, user])[0, 1] for user in range(people)]))


@pytest.fixture(scope="module")
def society() -> Society:
    return Society(own=0.5)


@pytest.fixture(scope="module")
def without(society: Society) -> TasteBasis:
    return society.basis()


@pytest.fixture(scope="module")
def found(society: Society, without: TasteBasis) -> TasteBasis:
    return with_own_process(without, society.data())


def test_tastes_beyond_the_common_dimensions_are_found(
    society: Society, without: TasteBasis, found: TasteBasis
) -> None:
    assert isinstance(found.network, FeaturesWithOwnProcess)
    assert society.found(found) > society.found(without) + 0.05
    assert found.means.shape == (
        PEOPLE,
        2 + RATED,
    )  # every rated image is a landmark, since there are fewer than enough
    assert torch.equal(found.demographic_effects[:2], without.demographic_effects)
    assert torch.equal(found.prior_covariance[:2, :2], without.prior_covariance)
    assert 0.2 < float(found.network.own.variance) < 1.5
    assert float(found.noise.variances.mean()) == pytest.approx(NOISE, rel=0.4)


def test_where_there_is_nothing_of_the_kind_the_basis_comes_back_as_it_is() -> None:
    society = Society(own=0.0)
    basis = society.basis()
    assert with_own_process(basis, society.data()) is basis


def test_everybodys_posterior_is_that_of_the_joint_gaussian_process(
    society: Society, without: TasteBasis, found: TasteBasis
) -> None:
    assert isinstance(found.network, FeaturesWithOwnProcess)
    own, everything = found.network.own, ImageFeatures(society.features)
    vectors = unit(society.features, own.centre, own.weights)
    gram = kernel(vectors @ vectors.T, own.length, own.linear) + JITTER * torch.eye(len(vectors))
    shared, design = (part.double() for part in without.network(society.features))
    covariance = design @ without.prior_covariance @ design.T + own.variance * gram
    prior_mean = shared + design @ without.demographic_effects[:, 0]
    for user in (0, 7):
        given = society.train.ratings[society.train.users == user]
        seen = covariance[:RATED, :RATED] + (found.noise.variances[user] + found.noise.misfit) * torch.eye(RATED)
        gain = torch.linalg.solve(seen, covariance[:RATED]).T
        mean = prior_mean + gain @ (given - prior_mean[:RATED])
        left = covariance.diagonal() - (gain * covariance[:, :RATED]).sum(dim=1) + found.noise.misfit
        output = found.predict(everything, [NAMES[user]] * len(vectors))
        assert output.std is not None
        torch.testing.assert_close(output.mean, mean, atol=2e-4, rtol=0)
        torch.testing.assert_close(output.std, left.sqrt(), atol=1e-3, rtol=0)


def test_choices_teach_it_too(society: Society) -> None:
    data, basis = society.data(choices=True), society.basis(choices=True)
    found = with_own_process(basis, data)
    assert isinstance(found.network, FeaturesWithOwnProcess)
    assert society.found(found, CHOOSING) > society.found(basis, CHOOSING) + 0.03
    ratings_alone = with_own_process(basis, replace(data, choices=None))
    assert society.found(found, CHOOSING) > society.found(ratings_alone, CHOOSING) + 0.01


def test_it_comes_back_from_its_tensors(society: Society, found: TasteBasis) -> None:
    again = TasteBasis.restore(found.tensors(), found.config())
    assert isinstance(again.network, FeaturesWithOwnProcess)
    names = [NAMES[number % PEOPLE] for number in range(FRESH)]
    one, other = again.predict(society.fresh, names), found.predict(society.fresh, names)
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-12, atol=1e-12)
    assert one.std is not None
    assert other.std is not None
    torch.testing.assert_close(one.std, other.std, rtol=1e-12, atol=1e-12)
    assert torch.equal(again.noise_std(NAMES), found.noise_std(NAMES))


def test_all_people_at_once_are_predicted_as_one_by_one(society: Society, found: TasteBasis) -> None:
    everybody = found.predict_all_users(society.fresh)
    for row, user in enumerate(NAMES):
        torch.testing.assert_close(everybody[:, row], found.predict(society.fresh, [user] * FRESH).mean)
    torch.testing.assert_close(found.predict_population(society.fresh), everybody.mean(dim=1))


def test_a_newcomer_is_known_as_well_as_if_they_had_been_there(society: Society, found: TasteBasis) -> None:
    mine = society.train[society.train.users == 3]
    images = ImageFeatures(society.features)[mine.images]
    known = found.introduce("newcomer", images, mine.ratings)
    assert known.user_ids == (*NAMES, "newcomer")
    theirs, own = (known.predict(society.fresh, [user] * FRESH).mean for user in ("newcomer", NAMES[3]))
    assert float(np.corrcoef(theirs, own)[0, 1]) > 0.99  # but for the noise, which is not known of a newcomer
    stranger = known.predict(society.fresh, [NAMES[4]] * FRESH).mean
    torch.testing.assert_close(stranger, found.predict(society.fresh, [NAMES[4]] * FRESH).mean)
    unrated = found.introduce("nobody", images[torch.arange(0)], mine.ratings[:0]).predict(
        society.fresh, ["nobody"] * FRESH
    )
    assert unrated.mean.isfinite().all()


def test_scores_have_gradients_and_many_images_have_few_landmarks(
    society: Society, without: TasteBasis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NUM_LANDMARKS > RATED
    monkeypatch.setattr("pamela_rl.rewards.taste.own_process.NUM_LANDMARKS", 20)
    found = with_own_process(without, society.data())
    assert found.means.shape == (PEOPLE, 2 + 20)
    assert society.found(found) > society.found(without)
    features = society.fresh.features.clone().requires_grad_()
    output = found.predict(ImageFeatures(features), [NAMES[0]] * FRESH)
    assert output.std is not None
    for part in (output.mean, output.std):
        (gradient,) = torch.autograd.grad(part.sum(), features, retain_graph=True)
        assert gradient.isfinite().all()
        assert bool((gradient.abs().sum(dim=1) > 0).all())


def test_somebody_without_an_answer_has_the_taste_of_the_prior(society: Society, without: TasteBasis) -> None:
    silent = society.train[society.train.users != 5]
    data = replace(society.data(), train=silent)
    basis = replace(without, means=without.means.clone())
    found = with_own_process(basis, data)
    torch.testing.assert_close(found.covariances[5], found.prior_covariance)
    torch.testing.assert_close(found.means[5], found.demographic_effects[:, 0])


def test_features_in_double_precision_are_no_error(society: Society, without: TasteBasis) -> None:
    data = society.data()
    found = with_own_process(without, replace(data, images=ImageFeatures(data.images.features.double())))
    assert isinstance(found.network, FeaturesWithOwnProcess)
