from __future__ import annotations

import numpy as np
import pytest
import torch

from pamela_rl.errors import UnknownUserError
from pamela_rl.rewards.taste_basis import Posterior, TasteBasis


def test_a_prediction_and_its_std_are_what_sampled_tastes_give(small_basis: TasteBasis) -> None:
    features = torch.randn(3, 5)
    output = small_basis.predict(features, ["b", "b", "b"])
    tastes = np.random.default_rng(0).multivariate_normal(
        small_basis.means[1].numpy(), small_basis.covariances[1].numpy(), 200_000
    )
    hidden = small_basis.network.trunk(features)
    rows = np.c_[np.ones(3), small_basis.network.taste(hidden).numpy()]
    ratings = small_basis.network.shared(hidden).numpy() + rows @ tastes.T
    assert output.std is not None
    np.testing.assert_allclose(output.mean, ratings.mean(axis=1), atol=0.03)
    np.testing.assert_allclose(output.std, ratings.std(axis=1), rtol=0.01)


def test_one_matrix_product_scores_everyone_as_one_by_one(small_basis: TasteBasis) -> None:
    features = torch.randn(6, 5)
    together = small_basis.scores(features)
    for column, user in enumerate(small_basis.user_ids):
        torch.testing.assert_close(together[:, column], small_basis.predict(features, [user] * 6).mean)
    torch.testing.assert_close(small_basis.predict_population(features), together.mean(dim=1))


def test_a_mixed_batch_gives_each_picture_its_own_users_score(small_basis: TasteBasis) -> None:
    features, users = torch.randn(5, 5), ["c", "a", "c", "b", "a"]
    mixed = small_basis.predict(features, users)
    assert mixed.std is not None
    for row, user in enumerate(users):
        alone = small_basis.predict(features[row : row + 1], [user])
        assert alone.std is not None
        torch.testing.assert_close(mixed.mean[row], alone.mean[0])
        torch.testing.assert_close(mixed.std[row], alone.std[0])


def test_scores_rest_on_the_standardised_features(small_basis: TasteBasis) -> None:
    features = torch.randn(4, 5)
    before = small_basis.scores(features)
    small_basis.network.centre.fill_(3.0)
    small_basis.network.spread.fill_(2.0)
    torch.testing.assert_close(small_basis.scores(features * 2 + 3), before, atol=1e-5, rtol=1e-5)


def test_who_has_rated_nothing_is_expected_to_be_like_the_prior(small_basis: TasteBasis) -> None:
    prior = small_basis.prior(None)
    torch.testing.assert_close(prior.mean, small_basis.prior_map[:, 0])
    torch.testing.assert_close(prior.covariance, small_basis.prior_covariance)
    older = small_basis.prior({"age": 60}).mean - small_basis.prior({"age": 50}).mean
    torch.testing.assert_close(older, small_basis.prior_map[:, 1] * 10 / float(np.std([20, 30, 50])))


def test_a_new_person_leaves_the_others_as_they_were(small_basis: TasteBasis) -> None:
    features = torch.randn(4, 5)
    taste = Posterior(torch.ones(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64))
    more = small_basis.with_user("d", taste)
    assert more.user_ids == ("a", "b", "c", "d")
    assert small_basis.user_ids == ("a", "b", "c")
    torch.testing.assert_close(more.scores(features)[:, :3], small_basis.scores(features))
    output = more.predict(features, ["d"] * 4)
    assert output.std is not None
    assert output.std.tolist() == [0.0] * 4
    torch.testing.assert_close(more.posterior("d").mean, taste.mean)


def test_a_known_person_can_be_known_anew(small_basis: TasteBasis) -> None:
    features = torch.randn(4, 5)
    taste = Posterior(torch.ones(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64))
    again = small_basis.with_user("a", taste)
    assert sorted(again.user_ids) == ["a", "b", "c"]
    torch.testing.assert_close(again.posterior("a").mean, taste.mean)
    for user in ("b", "c"):
        torch.testing.assert_close(
            again.predict(features, [user] * 4).mean, small_basis.predict(features, [user] * 4).mean
        )


def test_an_unknown_user_is_refused_with_the_remedy(small_basis: TasteBasis) -> None:
    sentence = (
        r"^the reward does not know user 'eve'; it knows 3 people \(a, b, c, …\)\. Show some .* fit_newcomer first\.$"
    )
    with pytest.raises(UnknownUserError, match=sentence):
        small_basis.predict(torch.randn(2, 5), ["a", "eve"])
    with pytest.raises(UnknownUserError, match=sentence):
        small_basis.posterior("eve")
