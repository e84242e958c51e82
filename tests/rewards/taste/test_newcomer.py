from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pamela_rl.errors import DataError
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.newcomer import PairChoices, add_choices, add_rating, fit_newcomer, next_image
from pamela_rl.rewards.taste.posterior import Posterior
from pamela_rl.rewards.taste.taste_basis import TasteBasis


def images(count: int) -> ImageFeatures:
    return ImageFeatures(torch.randn(count, 5))


def same(first: Posterior, second: Posterior) -> None:
    torch.testing.assert_close(first.means, second.means, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(first.covariances, second.covariances, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(first.log_weights, second.log_weights, atol=1e-6, rtol=1e-6)


def some_preferences(count: int = 4) -> PairChoices:
    return PairChoices(images(count), images(count), torch.tensor([1.0, 0.0, 0.5, 1.0])[:count])


def test_a_newcomer_who_says_nothing_is_expected_to_be_like_the_prior(small_basis: TasteBasis) -> None:
    same(fit_newcomer(small_basis), small_basis.prior())
    same(fit_newcomer(small_basis, demographics={"age": 60}), small_basis.prior({"age": 60}))


def test_ratings_teach_what_the_basis_learns_of_them(small_basis: TasteBasis) -> None:
    """What that is, test_taste_basis compares with a dense formula."""
    support, ratings = images(6), torch.rand(6) * 4 + 1
    for reported in (None, {"age": 50}):
        same(fit_newcomer(small_basis, support, ratings, reported), small_basis.infer_taste(support, ratings, reported))


def test_preferences_teach_the_differences_between_two_pictures(small_basis: TasteBasis) -> None:
    requested = some_preferences()
    (shared_a, design_a), (shared_b, design_b) = (
        small_basis.network(p.features) for p in (requested.first, requested.second)
    )
    prior = small_basis.prior({"age": 25})
    expected = prior.observe_choices((design_a - design_b).double(), (shared_a - shared_b).double(), requested.outcomes)
    same(fit_newcomer(small_basis, demographics={"age": 25}, choices=requested), expected)


def test_both_kinds_of_answers_add_up(small_basis: TasteBasis) -> None:
    support, ratings, requested = images(6), torch.rand(6) * 4 + 1, some_preferences()
    both = fit_newcomer(small_basis, support, ratings, {"age": 25}, requested)
    same(both, add_choices(small_basis, fit_newcomer(small_basis, support, ratings, {"age": 25}), requested))
    for alone in (fit_newcomer(small_basis, support, ratings), fit_newcomer(small_basis, choices=requested)):
        assert torch.linalg.eigvalsh(alone.covariances - both.covariances).min() > -1e-6


def test_preferences_move_a_prediction_the_way_they_point(small_basis: TasteBasis) -> None:
    first, second = images(1), images(1)

    def lead(posterior: Posterior) -> float:
        known = small_basis.with_user("new", posterior)
        return float(known.predict(first, ["new"]).mean - known.predict(second, ["new"]).mean)

    before = lead(small_basis.prior())
    won, lost = (
        lead(fit_newcomer(small_basis, choices=PairChoices(first, second, torch.tensor([outcome]))))
        for outcome in (1.0, 0.0)
    )
    assert lost < before < won


def test_one_more_rating_teaches_the_same_as_all_at_once(small_basis: TasteBasis) -> None:
    support, ratings = images(7), torch.rand(7) * 4 + 1
    step_by_step = small_basis.prior({"age": 30})
    for row in torch.randperm(7).split(2):
        step_by_step = add_rating(small_basis, step_by_step, support[row], ratings[row])
    same(step_by_step, fit_newcomer(small_basis, support, ratings, {"age": 30}))


def brute_force(
    basis: TasteBasis, posterior: Posterior, candidates: ImageFeatures, pool: ImageFeatures
) -> NDArray[np.float64]:
    """Variance of how the pool's pictures compare with one another, after a rating of each candidate."""
    covariance = posterior.covariance.numpy()
    noise = float(posterior.noise_variance) + posterior.misfit
    _, others = basis.network(pool.features)
    left = []
    for row in range(len(candidates)):
        x = basis.network(candidates.features[row : row + 1])[1][0].double().numpy()
        after = np.linalg.inv(np.linalg.inv(covariance) + np.outer(x, x) / noise)
        joint = others.double().numpy() @ after @ others.double().numpy().T
        centre = np.eye(len(pool)) - 1 / len(pool)
        left.append(np.trace(centre @ joint @ centre))
    return np.array(left)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("known", "misfit"), [(False, 0.1), (True, 0.1), (False, 20.0)])
def test_the_next_picture_is_the_one_that_leaves_least_doubt(
    small_basis: TasteBasis, seed: int, known: bool, misfit: float
) -> None:
    torch.manual_seed(seed)
    candidates, pool = images(12), images(30)
    posterior = small_basis.posterior("b") if known else small_basis.infer_taste(images(2), torch.rand(2) * 4 + 1)
    posterior = replace(posterior, misfit=misfit)
    for others in (pool, None):
        left = brute_force(small_basis, posterior, candidates, candidates if others is None else others)
        assert next_image(small_basis, posterior, candidates, others) == left.argmin()


def test_it_is_never_kindness_alone_that_is_asked_about(small_basis: TasteBasis) -> None:
    """A picture without any taste in it tells only how kind a person is, however unsure that is."""
    unsure = torch.eye(4, dtype=torch.float64)
    unsure[0, 0] = 1000.0
    posterior = replace(small_basis.posterior("a"), covariances=unsure[None])
    small_basis.network.taste.bias.zero_()
    for layer in small_basis.network.trunk:
        if isinstance(layer, torch.nn.Linear):
            layer.bias.zero_()
    plain, telling = torch.zeros(1, 5), torch.randn(3, 5)  # the network is 0 at 0: the design row is [1, 0, 0, 0]
    assert next_image(small_basis, posterior, ImageFeatures(torch.cat([plain, telling, plain])), images(30)) in (
        1,
        2,
        3,
    )


def test_without_a_candidate_there_is_nothing_to_ask(small_basis: TasteBasis) -> None:
    with pytest.raises(DataError, match=r"no picture left to ask about; give at least one candidate"):
        next_image(small_basis, small_basis.prior(), images(0))


def test_ratings_and_pictures_must_pair_up(small_basis: TasteBasis) -> None:
    sentence = r"gave 3 ratings, 0 of them not finite, of 4 pictures; give one finite rating"
    with pytest.raises(DataError, match=sentence):
        fit_newcomer(small_basis, images(4), torch.ones(3))
    with pytest.raises(DataError, match=sentence):
        add_rating(small_basis, small_basis.prior(), images(4), torch.ones(3))


@pytest.mark.parametrize("given", [(images(4), None), (None, torch.ones(4))])
def test_one_without_the_other_is_refused(
    small_basis: TasteBasis, given: tuple[ImageFeatures | None, torch.Tensor | None]
) -> None:
    with pytest.raises(DataError, match=r"pictures were given without ratings or ratings without pictures; give both"):
        fit_newcomer(small_basis, *given)


def test_a_rating_that_is_no_number_is_refused(small_basis: TasteBasis) -> None:
    ratings = torch.tensor([1.0, float("nan"), float("inf")])
    with pytest.raises(DataError, match=r"gave 3 ratings, 2 of them not finite"):
        fit_newcomer(small_basis, images(3), ratings)
    with pytest.raises(DataError, match=r"gave 3 ratings, 2 of them not finite"):
        add_rating(small_basis, small_basis.prior(), images(3), ratings)


def test_a_choice_that_is_none_is_refused(small_basis: TasteBasis) -> None:
    outcomes = torch.tensor([1.0, 0.7, -1.0, float("nan")])
    sentence = r"4 choices between 4 and 4 pictures were given, 3 of them neither 1 \(a\), 0 \(b\) nor 0\.5 \(tie\)"
    with pytest.raises(DataError, match=sentence):
        fit_newcomer(small_basis, choices=PairChoices(images(4), images(4), outcomes))
    with pytest.raises(DataError, match=r"4 choices between 4 and 3 pictures were given, 0 of them neither"):
        fit_newcomer(small_basis, choices=replace(some_preferences(), second=images(3)))
    with pytest.raises(DataError, match=r"2 choices between 4 and 4 pictures"):
        fit_newcomer(small_basis, choices=replace(some_preferences(), outcomes=torch.ones(2)))
