from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.taste.kernel_evidence import PART_MEDIAN, Known, Scales, fit_scales
from pamela_rl.rewards.taste.kernel_features import JITTER, KernelFeatures, directions, kernel, unit
from pamela_rl.rewards.taste.kernel_fit import fit_kernel_basis
from pamela_rl.rewards.taste.responses import Responses
from pamela_rl.rewards.taste.taste_basis import TasteBasis

SLIDER = RatingScale(-20, 20, step=0)
NUM_IMAGES, DIM = 60, 8
WEIGHTS = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)


def normal(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data(liked_part: int, constant_part: int | None = None, parts: int = 3, seed: int = 0) -> tuple[RatingData, Tensor]:
    """One person's ratings of 60 pictures of 90, and noise-free opinions of all, which depend on one part alone."""
    features = normal(NUM_IMAGES + 30, parts, DIM, seed=seed)
    if constant_part is not None:
        features[:, constant_part] = features[0, constant_part]
    opinions = 3 + 1.5 * torch.tanh(features[:, liked_part] @ normal(DIM, seed=seed + 1) / DIM**0.5 * 1.5)
    given = opinions[:NUM_IMAGES] + 0.3 * normal(NUM_IMAGES, seed=seed + 2)
    train = RatingTensors(torch.zeros(NUM_IMAGES, dtype=torch.long), torch.arange(NUM_IMAGES), given)
    images = ImageFeatures(features.flatten(1).float(), parts=parts)
    return RatingData(images, train, ("ada",), scale=SLIDER), opinions


def scales_of(given: RatingData) -> Scales:
    responses, mean = Responses.of(given), given.train.ratings.mean()
    features = given.images.features.double()
    away = directions(features, features[:NUM_IMAGES].mean(dim=0), given.images.parts)
    known = Known.nothing_but(responses.known(mean))
    return fit_scales(responses, away, known, float(given.train.ratings.var(correction=0)), 1e-4, 0)


def test_directions_of_parts_have_length_one_and_constant_parts_none() -> None:
    features = normal(5, 3, DIM)
    features[:, 1] = 2.5
    centre = features.mean(dim=0).flatten()
    found = directions(features.flatten(1).float(), centre.float().double(), 3)
    assert found.dtype == torch.float64
    away = features - features.mean(dim=0)
    away[:, 1] = 0
    expected = away / away.norm(dim=2, keepdim=True).clamp(min=1e-9)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_cosine_is_the_weighted_mean_of_the_parts_cosines() -> None:
    features, centre = normal(6, 3 * DIM), normal(3 * DIM, seed=1)
    vectors = unit(features, centre, WEIGHTS)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6, dtype=torch.float64))
    away = (features - centre).view(6, 3, DIM)
    cosines = torch.stack(
        [torch.nn.functional.cosine_similarity(away[:, None, p], away[None, :, p], dim=2) for p in range(3)]
    )
    torch.testing.assert_close(vectors @ vectors.T, (WEIGHTS[:, None, None] * cosines).sum(dim=0))


def test_an_image_is_as_like_itself_as_can_be() -> None:
    vectors = unit(normal(6, 3 * DIM), normal(3 * DIM, seed=1), WEIGHTS)
    gram = kernel(vectors @ vectors.T, torch.tensor(0.8).double(), torch.tensor(0.4).double())
    torch.testing.assert_close(gram.diagonal(), torch.ones(6, dtype=torch.float64))
    assert float((gram - torch.eye(6)).max()) < 0.999
    by_hand = (
        np.exp(-float((vectors[0] - vectors[1]).square().sum()) / (2 * 0.64)) + 0.4 * float(vectors[0] @ vectors[1])
    ) / 1.4
    assert float(gram[0, 1]) == pytest.approx(by_hand, rel=1e-5)


def test_coordinates_give_the_kernel_at_landmarks_and_leave_the_rest_unexplained() -> None:
    features, centre = normal(30, 3 * DIM), normal(3 * DIM, seed=1)
    length, linear, variance = (torch.tensor(value).double() for value in (1.1, 0.3, 2.0))
    landmarks = unit(features[:20], centre, WEIGHTS)
    network = KernelFeatures(landmarks, centre, WEIGHTS, length, linear, variance, torch.tensor(3.0).double())
    psi, vectors = network.coordinates(features), unit(features, centre, WEIGHTS)
    gram = kernel(vectors @ vectors.T, length, linear)
    torch.testing.assert_close(psi @ psi[:20].T, gram[:, :20], atol=1e-4, rtol=0)
    left = 2 * (1 + JITTER - psi.square().sum(dim=1))
    torch.testing.assert_close(network.unexplained(features), left)
    assert (
        float(network.unexplained(features)[:20].max()) < 1e-4 < 0.1 < float(network.unexplained(features)[20:].min())
    )
    again = KernelFeatures.shaped_like(network.state_dict())
    torch.testing.assert_close(again.coordinates(features), psi, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 10])
def test_the_part_that_taste_depends_on_gets_the_weight(seed: int) -> None:
    given, _ = data(0, seed=seed)
    weights = scales_of(given).parts
    assert float(weights.sum()) == pytest.approx(1)
    assert float(weights[0]) > 0.8
    other, _ = data(1, seed=seed)
    assert (
        int(scales_of(other).parts.argmax()) == 1
    )  # against the prior, under which the first counts ten times as much


def test_where_ratings_say_nothing_parts_keep_their_prior_weights() -> None:
    given, _ = data(0)
    one = RatingTensors(*(column[:1] for column in (given.train.users, given.train.images, given.train.ratings)))
    few = RatingData(given.images, one, ("ada",), scale=SLIDER)
    responses = Responses.of(few)
    away = directions(few.images.features, few.images.features.double().mean(dim=0), 3)
    known = Known.nothing_but(responses.known(torch.tensor(3.0)))
    weights = fit_scales(responses, away, known, 1.0, 1e-4, 0).parts
    expected = torch.tensor([1, PART_MEDIAN, PART_MEDIAN], dtype=torch.float64) / (1 + 2 * PART_MEDIAN)
    torch.testing.assert_close(weights, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("constant", [0, 1, 2])
def test_a_part_that_is_the_same_in_all_images_has_no_weight(constant: int) -> None:
    given, _ = data((constant + 1) % 3, constant_part=constant)
    weights = scales_of(given).parts
    assert float(weights[constant]) == 0
    assert float(weights.sum()) == pytest.approx(1)


def test_images_that_are_all_the_same_are_no_error() -> None:
    given, _ = data(0)
    same = ImageFeatures(given.images.features[:1].expand(90, -1).contiguous(), parts=3)
    basis = fit_kernel_basis(RatingData(same, given.train, ("ada",), scale=SLIDER))
    output = basis.predict(same, ["ada"] * 90)
    torch.testing.assert_close(output.mean, given.train.ratings.mean().expand(90), atol=0.3, rtol=0)


def test_parts_that_mean_nothing_hardly_hurt_and_weights_come_back_from_tensors() -> None:
    given, opinions = data(0)
    basis = fit_kernel_basis(given)
    new = given.images[torch.arange(NUM_IMAGES, NUM_IMAGES + 30)]

    def found(model: TasteBasis, images: ImageFeatures) -> float:
        return float(np.corrcoef(model.predict(images, ["ada"] * 30).mean, opinions[NUM_IMAGES:])[0, 1])

    whole = ImageFeatures(given.images.features)  # as one part, in which two thirds are noise
    blind = fit_kernel_basis(RatingData(whole, given.train, ("ada",), scale=SLIDER))
    assert found(basis, new) > found(blind, new) + 0.05
    again = TasteBasis.restore(basis.tensors(), basis.config())
    one, other = (model.predict(new, ["ada"] * 30).mean for model in (again, basis))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert isinstance(again.network, KernelFeatures)
    assert len(again.network.weights) == 3
