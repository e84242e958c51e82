from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from pamela_rl.agreement.measure import UserRatings, predictions
from pamela_rl.errors import UnknownUserError
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.posterior import Posterior
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures, _Dropout

CERTAIN = Posterior(
    torch.tensor([0.4], dtype=torch.float64),
    torch.zeros(1, dtype=torch.float64),
    torch.ones(1, 4, dtype=torch.float64),
    torch.zeros(1, 4, 4, dtype=torch.float64),
    0.1,
)


def images(count: int) -> ImageFeatures:
    return ImageFeatures(torch.randn(count, 5))


def by_hand(basis: TasteBasis, support: ImageFeatures) -> tuple[Tensor, Tensor]:
    hidden = basis.network.trunk(support.features)
    design = torch.cat([torch.ones(len(support), 1), basis.network.taste(hidden)], dim=1)
    return basis.network.shared(hidden)[:, 0].double(), design.double()


def test_a_prediction_and_its_std_are_what_sampled_tastes_give(small_basis: TasteBasis) -> None:
    support, numbers = images(3), np.random.default_rng(0)
    output = small_basis.predict(support, ["b", "b", "b"])
    tastes = numbers.multivariate_normal(small_basis.means[1].numpy(), small_basis.covariances[1].numpy(), 200_000)
    shared, design = by_hand(small_basis, support)
    # an opinion of a picture is off what the basis can express by a normal of its own
    opinions = shared.numpy()[:, None] + design.numpy() @ tastes.T + 0.1**0.5 * numbers.standard_normal((3, 200_000))
    assert output.std is not None
    np.testing.assert_allclose(output.mean, opinions.mean(axis=1), atol=0.03)
    np.testing.assert_allclose(output.std, opinions.std(axis=1), rtol=0.01)
    ratings = opinions + 0.5**0.5 * numbers.standard_normal((3, 200_000))
    users = np.array(["b"] * 3, dtype=object)
    rated = UserRatings(support, torch.zeros(3, dtype=torch.float64), users, np.arange(3))
    np.testing.assert_allclose(predictions(small_basis, rated)[1], ratings.std(axis=1), rtol=0.01)


def test_the_noise_is_each_persons_own(small_basis: TasteBasis) -> None:
    expected = torch.tensor([0.2, 0.37, 0.2, 0.5], dtype=torch.float64).sqrt()
    torch.testing.assert_close(small_basis.noise_std(["c", "a", "c", "b"]), expected)


def test_one_matrix_product_scores_everyone_as_one_by_one(small_basis: TasteBasis) -> None:
    support = images(6)
    together = small_basis.predict_all_users(support)
    for column, user in enumerate(small_basis.user_ids):
        torch.testing.assert_close(together[:, column], small_basis.predict(support, [user] * 6).mean)
    torch.testing.assert_close(small_basis.predict_population(support), together.mean(dim=1))


def test_a_mixed_batch_gives_each_picture_its_own_users_score(small_basis: TasteBasis) -> None:
    support, users = images(5), ["c", "a", "c", "b", "a"]
    mixed = small_basis.predict(support, users)
    assert mixed.std is not None
    for row, user in enumerate(users):
        alone = small_basis.predict(support[torch.tensor([row])], [user])
        assert alone.std is not None
        torch.testing.assert_close(mixed.mean[row], alone.mean[0])
        torch.testing.assert_close(mixed.std[row], alone.std[0])


def test_scores_rest_on_the_standardised_features_and_come_in_rating_units(small_basis: TasteBasis) -> None:
    support = images(4)
    before = small_basis.predict_all_users(support)
    small_basis.network.feature_mean.fill_(3.0)
    small_basis.network.feature_std.fill_(2.0)
    moved = ImageFeatures(support.features * 2 + 3)
    torch.testing.assert_close(small_basis.predict_all_users(moved), before, atol=1e-5, rtol=1e-5)
    small_basis.network.rating_mean.fill_(50.0)
    small_basis.network.rating_std.fill_(10.0)
    torch.testing.assert_close(small_basis.predict_all_users(moved), 50 + 10 * before, atol=1e-4, rtol=1e-5)


def test_a_network_without_hidden_layers_is_linear() -> None:
    network = TasteFeatures(5, 2, num_layers=0)
    first, second = torch.randn(3, 5), torch.randn(3, 5)
    middle, ends = network((first + second) / 2), [network(part) for part in (first, second)]
    for place in (0, 1):
        torch.testing.assert_close(middle[place], (ends[0][place] + ends[1][place]) / 2)


def test_who_has_rated_nothing_is_expected_to_be_like_the_prior(small_basis: TasteBasis) -> None:
    prior = small_basis.prior(None)
    torch.testing.assert_close(prior.mean, small_basis.demographic_effects[:, 0])
    torch.testing.assert_close(prior.covariance, small_basis.prior_covariance)
    older = small_basis.prior({"age": 60}).mean - small_basis.prior({"age": 50}).mean
    torch.testing.assert_close(older, small_basis.demographic_effects[:, 1] * 10 / float(np.std([20, 30, 50])))
    torch.testing.assert_close(small_basis.infer_taste(images(0), torch.zeros(0)).means, prior.means)


@pytest.mark.parametrize("reported", [None, {"age": 50}, {"age": None, "unasked": 1}])
def test_what_ratings_teach_is_the_dense_posterior_with_repeats_sharing_their_pictures_misfit(
    small_basis: TasteBasis, reported: dict[str, object] | None
) -> None:
    group = torch.tensor([2, 0, 1, 2, 0, 2])  # three pictures, of which one is rated once
    once = images(3)
    ratings = torch.rand(6).double() * 4 + 1
    found = small_basis.infer_taste(once[group], ratings, reported)
    shared, design = (part[group].numpy() for part in by_hand(small_basis, once))
    age = (50 - 100 / 3) / float(np.std([20, 30, 50])) if reported and reported["age"] else 0.0
    centre = (small_basis.demographic_effects @ torch.tensor([1.0, age], dtype=torch.float64)).numpy()
    prior, same = small_basis.prior_covariance.numpy(), (group[:, None] == group).double().numpy()
    levels, log_weights = (part.numpy() for part in small_basis.noise.levels())
    means, likelihoods = [], []
    for noise in levels:
        spread = design @ prior @ design.T + 0.1 * same + noise * np.eye(6)
        error = ratings.numpy() - shared - design @ centre
        means.append(centre + prior @ design.T @ np.linalg.solve(spread, error))
        likelihoods.append(stats.multivariate_normal(np.zeros(6), spread).logpdf(error))
    weights = np.exp(log_weights + likelihoods)
    weights /= weights.sum()
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4)
    np.testing.assert_allclose(found.mean, weights @ np.array(means), atol=1e-5)


def test_somebody_introduced_is_predicted_by_what_was_learned(small_basis: TasteBasis) -> None:
    support, ratings = images(8), torch.rand(8) * 4 + 1
    more = small_basis.introduce("d", support, ratings, {"age": 25})
    learned = small_basis.infer_taste(support, ratings, {"age": 25})
    torch.testing.assert_close(more.posterior("d").mean, learned.mean)
    torch.testing.assert_close(more.posterior("d").covariance, learned.covariance)
    torch.testing.assert_close(more.noise_std(["d"]), learned.noise_variance.sqrt()[None])
    shared, design = by_hand(small_basis, support)
    expected = (shared + design @ learned.mean).float()
    torch.testing.assert_close(more.predict(support, ["d"] * 8).mean, expected, atol=1e-5, rtol=1e-5)


def test_a_new_person_leaves_the_others_as_they_were(small_basis: TasteBasis) -> None:
    support = images(4)
    more = small_basis.with_user("d", CERTAIN)
    assert more.user_ids == ("a", "b", "c", "d")
    assert small_basis.user_ids == ("a", "b", "c")
    torch.testing.assert_close(more.predict_all_users(support)[:, :3], small_basis.predict_all_users(support))
    torch.testing.assert_close(more.noise_std(["a", "b", "c"]), small_basis.noise_std(["a", "b", "c"]))
    output = more.predict(support, ["d"] * 4)
    assert output.std is not None
    torch.testing.assert_close(output.std, torch.full((4,), 0.1).sqrt())  # the misfit alone
    torch.testing.assert_close(more.posterior("d").mean, CERTAIN.mean)
    torch.testing.assert_close(more.posterior("d").noise_variance, CERTAIN.noise_variance)
    assert more.posterior("d").misfit == 0.1


def test_a_known_person_can_be_known_anew(small_basis: TasteBasis) -> None:
    support = images(4)
    again = small_basis.with_user("a", CERTAIN)
    assert sorted(again.user_ids) == ["a", "b", "c"]
    torch.testing.assert_close(again.posterior("a").mean, CERTAIN.mean)
    for user in ("b", "c"):
        before, after = (basis.predict(support, [user] * 4).mean for basis in (small_basis, again))
        torch.testing.assert_close(after, before)
        torch.testing.assert_close(again.noise_std([user]), small_basis.noise_std([user]))


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_a_model_comes_back_exactly_from_its_tensors_and_its_facts(small_basis: TasteBasis, num_layers: int) -> None:
    network = TasteFeatures(5, 3, hidden_dim=8, num_layers=num_layers).eval().requires_grad_(False)
    for buffer in (network.feature_mean, network.feature_std, network.rating_mean, network.rating_std):
        buffer.copy_(torch.rand_like(buffer) + 1)
    basis = replace(small_basis, network=network).with_user("d", CERTAIN)
    again = TasteBasis.restore(basis.tensors(), json.loads(json.dumps(basis.config())))
    support = images(6)
    torch.testing.assert_close(
        again.predict_all_users(support), basis.predict_all_users(support), rtol=1e-12, atol=1e-12
    )
    assert torch.equal(again.noise_std(["a", "d"]), basis.noise_std(["a", "d"]))
    for name, value in basis.tensors().items():
        torch.testing.assert_close(again.tensors()[name], value, atol=0, rtol=0)
    assert (again.user_ids, again.coding) == (basis.user_ids, basis.coding)
    first, second = (b.predict(support, ["b"] * 6).std for b in (basis, again))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)
    first, second = (b.infer_taste(support, torch.ones(6), {"age": 33}) for b in (basis, again))
    assert torch.equal(first.means, second.means)
    assert torch.equal(first.covariances, second.covariances)
    assert torch.equal(first.log_weights, second.log_weights)
    assert not any(part.requires_grad for part in again.network.parameters())
    assert not again.network.training


def test_an_unknown_user_is_refused_with_the_remedy(small_basis: TasteBasis) -> None:
    sentence = (
        r"^the reward does not know user 'eve'; it knows 3 people \(a, b, c, …\)\. Show some .* introduce first\.$"
    )
    with pytest.raises(UnknownUserError, match=sentence):
        small_basis.predict(images(2), ["a", "eve"])
    with pytest.raises(UnknownUserError, match=sentence):
        small_basis.noise_std(["a", "eve"])
    with pytest.raises(UnknownUserError, match=sentence):
        small_basis.posterior("eve")


def test_a_copy_on_another_device_predicts_there_alone(small_basis: TasteBasis) -> None:
    there = torch.device("meta")  # raises at whatever would come back to the CPU
    features = images(3).features
    users = [small_basis.user_ids[0]] * 3
    output = small_basis.on(there).predict(ImageFeatures(features.to(there)), users)
    assert output.std is not None
    assert output.mean.device == output.std.device == there
    here = small_basis.on(torch.device("cpu")).predict(ImageFeatures(features), users)
    assert torch.equal(here.mean, small_basis.predict(ImageFeatures(features), users).mean)


def test_dropout_keeps_its_share_its_mean_and_torchs_seed() -> None:
    dropout, ones = _Dropout(0.25), torch.ones(200, 500)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first, second = dropout(ones), dropout(ones)
        torch.manual_seed(3)
        assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)
    assert first.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropout.eval()(ones) is ones
