from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pamela_rl.agreement.calibration import coverage
from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.preference import ChoiceTensors, ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.taste.kernel_evidence import Known, fit_scales
from pamela_rl.rewards.taste.kernel_features import JITTER, KernelFeatures, directions, kernel
from pamela_rl.rewards.taste.kernel_fit import fit_kernel_basis
from pamela_rl.rewards.taste.responses import Responses
from pamela_rl.rewards.taste.taste_basis import TasteBasis

NUM_IMAGES, DIM = 80, 12
SLIDER = RatingScale(-20, 20, step=0)


def make_data(num_people: int, num_ratings: int, seed: int = 0) -> tuple[RatingData, Tensor]:
    """Ratings by people who share a curved taste and differ in another, and their noise-free opinions."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    features = normal(NUM_IMAGES, DIM)
    weights = normal(num_people + 1, DIM) / DIM**0.5
    opinions = 3 + torch.tanh(features @ weights[0])[:, None] + 1.5 * torch.tanh(features @ weights[1:].T)
    users = torch.arange(num_people).repeat_interleave(num_ratings)
    images = torch.cat([torch.randperm(40, generator=generator)[:num_ratings] for _ in range(num_people)])
    given = opinions[images, users] + 0.4 * normal(len(users))
    names = tuple(f"p{user}" for user in range(num_people))
    train = RatingTensors(users, images, given)
    return RatingData(ImageFeatures(features.float()), train, names, scale=SLIDER), opinions


def test_everybodys_posterior_is_that_of_the_joint_gaussian_process() -> None:
    data, _ = make_data(3, 20)
    basis = fit_kernel_basis(data)
    assert isinstance(basis.network, KernelFeatures)
    responses = Responses.of(data)
    centre = data.images.features.double()[responses.first.unique()].mean(dim=0)
    mean, variance = data.train.ratings.mean(), float(data.train.ratings.var(correction=0))
    away, known = directions(data.images.features, centre, 1), Known.nothing_but(responses.known(mean))
    scales = fit_scales(responses, away, known, variance, 1e-5 * variance, 0)
    gram = kernel(away[:, 0] @ away[:, 0].T, scales.length, scales.linear)
    users, images = responses.users, responses.first
    noise = basis.noise.variances[users]
    for user in range(3):
        same, other = (users[:, None] == users).double(), (users == user).double()
        bias = 1e-6 * scales.bias  # of what all share
        between = (scales.shared + same * scales.own) * gram[images][:, images] + same * scales.bias + bias
        jitter = JITTER * (images[:, None] == images) * (scales.shared + same * scales.own)
        across = (scales.shared + other * scales.own) * gram[:, images] + other * scales.bias + bias
        solved = torch.linalg.solve(between + jitter + noise.diag(), across.T)
        expected = mean + solved.T @ (responses.values - mean)
        left = (scales.shared + scales.own) + scales.bias + bias - (across * solved.T).sum(dim=1)
        output = basis.predict(data.images, [data.user_ids[user]] * NUM_IMAGES)
        assert output.std is not None
        torch.testing.assert_close(output.mean, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(output.std, left.sqrt(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("num_people", "num_ratings"), [(1, 40), (8, 30)])
def test_intervals_hold_as_often_as_they_say(num_people: int, num_ratings: int) -> None:
    covered = []
    for seed in range(8 if num_people == 1 else 2):
        data, opinions = make_data(num_people, num_ratings, seed)
        basis = fit_kernel_basis(data)
        new = torch.arange(40, NUM_IMAGES)
        for row, user in enumerate(data.user_ids):
            output, noise = basis.predict(data.images[new], [user] * 40), basis.noise_std([user])
            assert output.std is not None
            rated = opinions[new, row] + 0.4 * torch.randn(40, generator=torch.Generator().manual_seed(seed))
            spread = torch.hypot(output.std, noise).numpy()
            covered.append(coverage(output.mean.numpy(), spread, rated.numpy(), SLIDER).mean(axis=0))
    half, most, nearly_all = np.mean(covered, axis=0)
    assert (half, most, nearly_all) == pytest.approx((0.5, 0.8, 0.95), abs=0.07)


def test_uncertainty_grows_away_from_what_was_rated() -> None:
    data, _ = make_data(1, 30)
    basis = fit_kernel_basis(data)
    rated = data.images[data.train.images.unique()]
    elsewhere = ImageFeatures(30 * torch.randn(30, DIM, generator=torch.Generator().manual_seed(5)))
    near, far = (basis.predict(part, ["p0"] * 30).std for part in (rated, elsewhere))
    assert near is not None
    assert far is not None
    assert float(far.mean()) > 1.25 * float(near.mean())


def test_choices_teach_as_ratings_do_and_both_together_teach_more() -> None:
    data, opinions = make_data(1, 12)
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randint(40, (2, 200), generator=generator)
    chosen = torch.rand(200, generator=generator) < (4 * (opinions[first, 0] - opinions[second, 0])).sigmoid()
    choices = ChoiceTensors(torch.zeros(200, dtype=torch.int64), first, second, chosen.double())
    none = RatingTensors(*(torch.zeros(0, dtype=torch.int64),) * 2, torch.zeros(0, dtype=torch.float64))
    new, truth = data.images[torch.arange(40, NUM_IMAGES)], opinions[40:, 0].numpy()

    def found(ratings: RatingTensors, given: ChoiceTensors | None) -> float:
        basis = fit_kernel_basis(RatingData(data.images, ratings, ("p0",), None, given, scale=SLIDER))
        return float(np.corrcoef(basis.predict(new, ["p0"] * 40).mean, truth)[0, 1])

    alone = found(data.train, None)
    assert found(none, choices) > alone
    assert found(data.train, choices) > alone + 0.05


def test_somebody_new_changes_nothing_of_what_is_known_of_others() -> None:
    data, opinions = make_data(2, 30)
    basis = fit_kernel_basis(data)
    new = data.images[torch.arange(40, 70)]
    known = basis.introduce("ada", new, opinions[40:70, 1])
    assert known.user_ids == ("p0", "p1", "ada")
    assert known.means.shape[1] > basis.means.shape[1]  # those images are landmarks now
    elsewhere = data.images[torch.arange(70, NUM_IMAGES)]
    for user in ("p0", "p1"):
        before, after = basis.predict(elsewhere, [user] * 10), known.predict(elsewhere, [user] * 10)
        torch.testing.assert_close(after.mean, before.mean)
        torch.testing.assert_close(after.std, before.std, atol=1e-4, rtol=1e-4)
    error = (known.predict(new, ["ada"] * 30).mean - opinions[40:70, 1]).abs().mean()
    average = (basis.predict_population(new) - opinions[40:70, 1]).abs().mean()
    assert float(error) < 0.5 * float(average)


def test_a_kernel_comes_back_from_its_tensors() -> None:
    data, _ = make_data(2, 20)
    basis = fit_kernel_basis(data)
    again = TasteBasis.restore(basis.tensors(), basis.config())
    one, other = (each.predict(data.images, ["p1"] * NUM_IMAGES) for each in (again, basis))
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.std, other.std)


def test_scores_have_a_gradient_and_many_images_have_few_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pamela_rl.rewards.taste.kernel_fit.MAX_LANDMARKS", 15)
    data, opinions = make_data(1, 40)
    basis = fit_kernel_basis(data)
    assert basis.means.shape == (1, 16)
    features = data.images.features.clone().requires_grad_()
    output = basis.predict(ImageFeatures(features), ["p0"] * NUM_IMAGES)
    output.mean.sum().backward()
    assert features.grad is not None
    assert bool((features.grad.abs().sum(dim=1) > 0).all())
    assert float(np.corrcoef(output.mean.detach()[40:], opinions[40:, 0])[0, 1]) > 0.4
