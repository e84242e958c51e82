from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pamela_rl.agreement.measure import (
    UserRatings,
    controls,
    introduce_users,
    learning_curve,
    personal_agreement,
    population,
    predictions,
)
from pamela_rl.agreement.per_user import agreement, mismatched
from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.taste_basis import TasteBasis

SCALE = RatingScale(-30, 30, 0)
AGES = {"a": {"age": 20}, "new": {"age": 60}}


def reported(user: str) -> Mapping[str, Any] | None:
    return AGES.get(user)


def rated(basis: TasteBasis, users: tuple[str, ...], each: int = 12, noise: float = 0.3) -> UserRatings:
    """What people would say if the basis were right about them; their ratings in a mixed order."""
    numbers = torch.Generator().manual_seed(1)
    count = each * len(users)
    who = np.array([users[row % len(users)] for row in range(count)], dtype=object)
    images = torch.randint(40, (count,), generator=numbers)
    features = torch.randn(40, 5, generator=numbers)[images]
    truth = basis.predict_all_users(ImageFeatures(features)).double()
    mine = truth[torch.arange(count), torch.tensor([users.index(user) % 3 for user in who])]
    actual = mine + noise * torch.randn(count, generator=numbers, dtype=torch.float64)
    return UserRatings(ImageFeatures(features, ids=images), actual, who, images.numpy())


def test_one_persons_ratings_are_theirs_in_their_order(small_basis: TasteBasis) -> None:
    everybody = rated(small_basis, ("a", "b", "c"))
    mine = everybody.of("b")
    assert len(mine) == 12
    assert torch.equal(mine.ratings, everybody.ratings[1::3])
    assert torch.equal(mine.images.features, everybody.images.features[1::3])
    assert mine.image_ids.tolist() == everybody.image_ids[1::3].tolist()
    assert set(mine.user_ids) == {"b"}


@pytest.mark.parametrize("count", [0, 3, 12, 100])
def test_newcomers_are_known_by_their_first_ratings_alone(small_basis: TasteBasis, count: int) -> None:
    examples = rated(small_basis, ("new", "newer"))
    place = np.arange(len(examples)) // 2  # of each rating among its person's
    later = torch.from_numpy(place >= count)
    spoilt = replace(examples, ratings=torch.where(later, 99.0, examples.ratings))
    model, again = (
        introduce_users(small_basis, part, ["new", "newer"], count, reported) for part in (examples, spoilt)
    )
    held_out_part = ImageFeatures(torch.randn(9, 5))
    for user in ("new", "newer"):
        mine = examples.of(user)
        first = torch.arange(min(count, 12))
        alone = small_basis.introduce(user, mine.images[first], mine.ratings[first], reported(user))
        expected = alone.predict(held_out_part, [user] * 9)
        for known in (model, again):
            found = known.predict(held_out_part, [user] * 9)
            torch.testing.assert_close(found.mean, expected.mean)
            torch.testing.assert_close(found.std, expected.std)
    assert model.user_ids == ("a", "b", "c", "new", "newer")
    assert small_basis.user_ids == ("a", "b", "c")


def test_predictions_come_with_the_spread_of_single_ratings(small_basis: TasteBasis) -> None:
    everybody = rated(small_basis, ("a", "b", "c"))
    mean, spread = predictions(small_basis, everybody)
    names = list(everybody.user_ids)
    output = small_basis.predict(everybody.images, names)
    np.testing.assert_allclose(mean, output.mean)
    assert output.std is not None
    variance = output.std.double().numpy() ** 2 + small_basis.noise_std(names).numpy() ** 2
    np.testing.assert_allclose(spread, np.sqrt(variance))
    others, _ = predictions(small_basis, everybody, ["b"] * len(everybody))
    np.testing.assert_allclose(others, small_basis.predict(everybody.images, ["b"] * len(everybody)).mean)


def test_agreement_is_measured_person_by_person_with_their_own_ratings(small_basis: TasteBasis) -> None:
    everybody = rated(small_basis, ("a", "b", "c"))
    row = personal_agreement("mine", small_basis, everybody, SCALE)
    predicted, _ = predictions(small_basis, everybody)
    own = [
        spearmanr(predicted[everybody.user_ids == user], everybody.ratings[everybody.user_ids == user])[0]
        for user in ("a", "b", "c")
    ]
    assert (row.name, row.num_users) == ("mine", 3)
    assert row.srocc[0] == pytest.approx(np.mean(own))
    assert row.coverage is not None
    assert set(row.coverage) == {"50", "80", "95"}
    assert personal_agreement("few", small_basis, everybody, SCALE, min_ratings=13).num_users == 0


def test_the_controls_know_nothing_of_the_person(small_basis: TasteBasis) -> None:
    everybody = rated(small_basis, ("a", "b", "c"))
    own = personal_agreement("own", small_basis, everybody, SCALE)
    average, stranger = controls(small_basis, everybody, SCALE, seed=3)
    actual, users = everybody.ratings.numpy(), everybody.user_ids
    predicted = small_basis.predict_population(everybody.images).double().numpy()
    assert average == agreement("its population's taste", predicted, actual, users, seed=3)
    order = np.unique(users, return_inverse=True)[1]
    names = [("a", "b", "c")[int(row)] for row in mismatched(order, 3)]
    assert not (np.array(names) == users).any()
    theirs = small_basis.predict(everybody.images, names).mean.double().numpy()
    assert stranger.srocc == agreement("", theirs, actual, users, seed=3).srocc
    assert stranger.coverage is not None
    assert own.srocc[0] > max(average.srocc[0], stranger.srocc[0])


def test_one_person_alone_has_no_stranger_to_be_compared_with(small_basis: TasteBasis) -> None:
    assert [row.name for row in controls(small_basis, rated(small_basis, ("a",)), SCALE)] == ["its population's taste"]


def test_the_populations_taste_is_compared_with_pictures_mean_ratings(small_basis: TasteBasis) -> None:
    features, names = ImageFeatures(torch.randn(10, 5)[torch.arange(10).repeat(6)]), np.repeat(list("abcdef"), 10)
    truth, image_ids = small_basis.predict_population(features).double(), np.tile(np.arange(10), 6)
    user_bias = torch.arange(6.0).repeat_interleave(10)  # everybody rates everything, so it cancels
    row = population("its own", small_basis, UserRatings(features, truth + user_bias, names.astype(object), image_ids))
    assert (row.name, row.num_images) == ("its own", 10)
    assert row.srocc[0] == pytest.approx(1.0)
    assert row.mae[0] == pytest.approx(2.5, abs=1e-5)
    other = population("other", small_basis, UserRatings(features, -truth, names.astype(object), image_ids))
    assert other.srocc[0] == pytest.approx(-1.0)


def test_a_learning_curve_rises_with_what_newcomers_show(small_basis: TasteBasis) -> None:
    sharp = replace(small_basis, noise=replace(small_basis.noise, log_mean=-3.0, misfit=0.01))
    support, held_out = rated(sharp, ("x", "y", "z"), each=20, noise=0.1), rated(sharp, ("x", "y", "z"), each=30)
    curve = learning_curve("newcomers", sharp, support, held_out, (0, 2, 20), reported, SCALE)
    assert list(curve) == [0, 2, 20]
    for count, row in curve.items():
        model = introduce_users(sharp, support, ["x", "y", "z"], count, reported)
        assert row.srocc == personal_agreement("", model, held_out, SCALE).srocc
    assert curve[20].srocc[0] > curve[0].srocc[0] + 0.05
