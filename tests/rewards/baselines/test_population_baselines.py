from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.baselines.demographic_regression import fit_demographic_regression
from pamela_rl.rewards.baselines.nearest_users import Neighbourhood
from pamela_rl.rewards.baselines.nearest_users_fit import fit_nearest_users
from pamela_rl.rewards.baselines.population_baselines import fit_population_mean, fit_population_regression
from pamela_rl.rewards.baselines.ridge import (
    PENALTIES,
    leading_axes,
    principal_axes,
    variance_components,
    weighted_ridge,
)
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors

NUM_PICTURES, NUM_USERS = 180, 30
SHOWN, HELD, UNSEEN = range(120), range(120, 150), range(150, 180)  # rows of pictures
FITS = [fit_population_mean, fit_population_regression, fit_demographic_regression, fit_nearest_users]
each_fit = pytest.mark.parametrize("fit", FITS)
Fit = Callable[..., Any]


def camp(user: int) -> int:
    return 1 if user % 2 else -1


def truth(features: Tensor, user: int) -> Tensor:
    """Everybody likes the second feature; two camps want opposite things of the first; each has a bias."""
    return 3 + 0.5 * features[:, 1] + camp(user) * features[:, 0] + 0.05 * (user - NUM_USERS / 2)


def made_up() -> RatingData:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(NUM_PICTURES, 6, generator=generator) * torch.tensor([3, 2.5, 2, 1, 1, 1])
    features = features / torch.tensor([3, 2.5, 1, 1, 1, 1])

    def rated(image_features: range, each: int) -> RatingTensors:
        users = torch.arange(NUM_USERS).repeat_interleave(each)
        images = torch.randint(image_features.start, image_features.stop, (len(users),), generator=generator)
        means = torch.stack([truth(features, user) for user in range(NUM_USERS)])[users, images]
        return RatingTensors(
            users, images, means.double() + 0.3 * torch.randn(len(users), generator=generator).double()
        )

    users = tuple(f"p{row}" for row in range(NUM_USERS))
    demographics = pd.DataFrame(
        {"camp": ["even", "odd"] * (NUM_USERS // 2), "age": range(20, 20 + NUM_USERS)}, index=users
    )
    image_features = ImageFeatures(features, None, 1000 - torch.arange(NUM_PICTURES))
    return RatingData(image_features, rated(SHOWN, 30), users, rated(HELD, 8), demographics=demographics)


@pytest.fixture(scope="module")
def data() -> RatingData:
    return made_up()


@pytest.fixture(scope="module")
def unseen(data: RatingData) -> ImageFeatures:
    return data.images[torch.tensor(UNSEEN)]


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def left_out_by_hand(x: Any, y: Any, n: Any, penalty: float) -> tuple[Any, Any, float]:
    """Return predictions of each row by all others, the weights of all rows, and the intercept."""

    def solve(rows: Any) -> tuple[Any, float]:
        w = n[rows] / n[rows].sum()
        centre, mean = w @ x[rows], w @ y[rows]
        centred = x[rows] - centre
        gram = centred.T @ (n[rows][:, None] * centred) + penalty * np.eye(x.shape[1])
        line = np.linalg.solve(gram, centred.T @ (n[rows] * (y[rows] - mean)))
        return line, float(mean - centre @ line)

    others = []
    for row in range(len(x)):
        line, intercept = solve(np.arange(len(x)) != row)
        others.append(x[row] @ line + intercept)
    return np.array(others), *solve(np.ones(len(x), dtype=bool))


@pytest.mark.parametrize(("rows", "columns"), [(15, 4), (8, 12)])
def test_leaving_out_in_closed_form_is_leaving_out_by_hand(rows: int, columns: int) -> None:
    draws = np.random.default_rng(rows)
    x, n = draws.normal(size=(rows, columns)), draws.integers(1, 6, rows).astype(float)
    y = 2 + x[:, 0] - x[:, 1] + 0.7 * draws.normal(size=rows)
    weights, intercept, others = weighted_ridge(torch.tensor(x), torch.tensor(y), torch.tensor(n))
    share = n / n.sum()
    centred = np.sqrt(n)[:, None] * (x - share @ x)
    unit = np.linalg.eigvalsh(centred.T @ centred)[-1]
    by_hand = [left_out_by_hand(x, y, n, unit * float(penalty)) for penalty in PENALTIES]
    errors = [float(n @ (y - left) ** 2) for left, _, _ in by_hand]
    best = by_hand[int(np.argmin(errors))]
    assert 0 < np.argmin(errors) < len(errors) - 1
    np.testing.assert_allclose(others, best[0], rtol=1e-8)
    np.testing.assert_allclose(weights, best[1], rtol=1e-7, atol=1e-9)
    assert float(intercept) == pytest.approx(best[2], rel=1e-8)


@pytest.mark.parametrize(("rows", "columns"), [(9, 4), (5, 12)])
def test_principal_axes_are_those_of_the_singular_value_decomposition(rows: int, columns: int) -> None:
    x = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(dim=0)
    places, axes = principal_axes(x)
    values = torch.linalg.svdvals(x)[: min(rows - 1, columns)]
    torch.testing.assert_close(places.norm(dim=0), values)
    torch.testing.assert_close(places @ axes.T, x)
    torch.testing.assert_close(axes.T @ axes, torch.eye(len(values), dtype=torch.float64))
    assert principal_axes(torch.zeros(3, 5, dtype=torch.float64))[1].shape == (5, 0)


def test_all_axes_of_few_pictures_are_kept_and_the_leading_ones_of_many() -> None:
    x = torch.randn(120, 8, dtype=torch.float64)
    assert leading_axes(x[:99], 3).shape == (8, 8)
    assert leading_axes(x, 3).shape == (8, 3)
    assert float((x @ leading_axes(x, 3)).square().mean(dim=0).max()) == pytest.approx(1.0)


def test_variance_components_are_found_in_unequal_groups() -> None:
    draws = np.random.default_rng(0)
    groups = np.repeat(np.arange(800), draws.integers(1, 9, 800))
    values = 2 + 0.5 * draws.normal(size=800)[groups] + 1.5 * draws.normal(size=len(groups))
    within, between = variance_components(torch.tensor(values), torch.tensor(groups))
    assert within == pytest.approx(2.25, rel=0.1)
    assert between == pytest.approx(0.25, rel=0.25)
    alone = variance_components(torch.tensor([1.0, 3.0], dtype=torch.float64), torch.tensor([5, 6]))
    assert alone == (1.0, 0.0)


def test_a_picture_s_mean_is_shrunk_by_how_much_pictures_differ_and_how_often_it_was_rated() -> None:
    images = torch.tensor([2, 2, 2, 2, 0, 0, 3])
    given = torch.tensor([5, 4, 5, 4, 1, 2, 3], dtype=torch.float64)
    image_features = ImageFeatures(torch.zeros(4, 1), None, torch.tensor([40, 30, 20, 10]))
    model = fit_population_mean(RatingData(image_features, RatingTensors(torch.zeros(7).long(), images, given), ("a",)))
    overall, within = 24 / 7, (4 * 0.25 + 2 * 0.25) / 4  # seven ratings of three pictures
    between = 4 * (4.5 - overall) ** 2 + 2 * (1.5 - overall) ** 2 + (3 - overall) ** 2 - 2 * within
    between /= 7 - (16 + 4 + 1) / 7
    wanted = [1.5, overall, 4.5, 3.0]
    for row, count in ((0, 2), (2, 4), (3, 1)):
        wanted[row] = overall + (wanted[row] - overall) * between / (between + within / count)
    output = model.predict(image_features, ["a"] * 4)
    torch.testing.assert_close(output.mean, torch.tensor(wanted))
    assert output.std is not None
    stds = [(1 / (count / within + 1 / between)) ** 0.5 for count in (2, 0, 4, 1)]
    torch.testing.assert_close(output.std, torch.tensor(stds))
    torch.testing.assert_close(model.noise_std(["a"]), torch.tensor([within**0.5]))
    torch.testing.assert_close(model.predict_population(ImageFeatures(torch.zeros(2, 1))), torch.full((2,), overall))
    with pytest.raises(DataError, match="the pictures have no ids, which the population mean needs to recognise"):
        fit_population_mean(RatingData(ImageFeatures(torch.zeros(4, 1)), RatingTensors(images, images, given), ("a",)))


def test_what_all_like_is_in_the_population_s_regression_and_what_divides_them_is_not(
    data: RatingData, unseen: ImageFeatures
) -> None:
    model = fit_population_regression(data)
    assert correlation(model.predict_population(unseen), unseen.features[:, 1]) > 0.97
    assert abs(correlation(model.predict_population(unseen), unseen.features[:, 0])) < 0.4
    held_out = data.validation
    assert held_out is not None
    users = [data.user_ids[user] for user in held_out.users]
    error = model.predict(data.images[held_out.images], users).mean.double() - held_out.ratings
    assert float(model.noise_std(["p0"])) == pytest.approx(float(error.square().mean().sqrt()), rel=0.15)


def test_the_noise_of_the_population_s_regression_is_the_error_of_pictures_left_out(data: RatingData) -> None:
    train = data.train[data.train.images < 20]
    x = data.images.features[:20].double().numpy()
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    means = pd.Series(train.ratings.numpy()).groupby(train.images.numpy()).agg(["mean", "count"])
    assert len(means) == 20
    y, n = means["mean"].to_numpy(), means["count"].to_numpy(dtype=float)
    centred = np.sqrt(n)[:, None] * (x - n @ x / n.sum())
    unit = np.linalg.eigvalsh(centred.T @ centred)[-1]
    by_hand = [left_out_by_hand(x, y, n, unit * float(penalty))[0] for penalty in PENALTIES]
    errors = [float(np.mean((train.ratings.numpy() - left[train.images]) ** 2)) for left in by_hand]
    model = fit_population_regression(replace(data, train=train))
    assert model.noise == pytest.approx(min(errors) ** 0.5, rel=1e-6)


def test_taste_that_follows_demographics_is_found_by_the_demographic_regression(
    data: RatingData, unseen: ImageFeatures
) -> None:
    model = fit_demographic_regression(data)
    for user in (0, 1, 28, 29):
        answer = model.predict(unseen, [f"p{user}"] * len(unseen)).mean
        assert correlation(answer, truth(unseen.features, user)) > 0.98
    new = model.introduce("new", unseen, 5 * torch.ones(len(unseen)), {"camp": "odd", "age": 50})
    answer = new.predict(unseen, ["new"] * len(unseen)).mean
    assert correlation(answer, truth(unseen.features, 1)) > 0.98
    assert float(model.noise_std(["p0"])) < 0.4 < float(fit_population_regression(data).noise_std(["p0"]))


@pytest.mark.parametrize("reported", [None, {}, {"camp": "neither", "age": "old"}, {"camp": None, "height": 2}])
def test_somebody_of_whom_nothing_is_known_gets_the_population_s_regression(
    data: RatingData, unseen: ImageFeatures, reported: dict[str, Any] | None
) -> None:
    model = fit_demographic_regression(data).introduce("new", unseen[:0], torch.zeros(0), reported)
    answer = model.predict(unseen, ["new"] * len(unseen)).mean
    assert torch.equal(answer, fit_population_regression(data).predict_population(unseen))


def test_the_demographic_regression_is_ridge_regression_on_products(data: RatingData) -> None:
    model = fit_demographic_regression(data)
    rows = model.population.standardisation(data.images.features)

    def products(ratings: RatingTensors) -> tuple[Any, Any]:
        support = (rows @ model.axes)[ratings.images].numpy()
        demographics = model.user_demographics[ratings.users].numpy()
        design = np.einsum("ni,na->nia", demographics, np.c_[np.ones(len(support)), support]).reshape(len(support), -1)
        return design, (ratings.ratings - model.population.predict_standardised(rows[ratings.images])).numpy()

    assert data.validation is not None
    (design, left), (held_design, held_left) = products(data.train), products(data.validation)
    gram = design.T @ design
    unit = np.linalg.eigvalsh(gram)[-1]
    lines = [np.linalg.solve(gram + unit * float(p) * np.eye(len(gram)), design.T @ left) for p in PENALTIES]
    errors = [float(np.mean((held_left - held_design @ line) ** 2)) for line in lines]
    np.testing.assert_allclose(model.weights.flatten(), lines[int(np.argmin(errors))], rtol=1e-6, atol=1e-9)
    assert model.noise == pytest.approx(min(errors) ** 0.5)


def test_people_without_demographics_can_be_fitted(data: RatingData, unseen: ImageFeatures) -> None:
    model = fit_demographic_regression(replace(data, demographics=None))
    assert torch.equal(model.predict(unseen, ["p1"] * len(unseen)).mean, model.predict_population(unseen))


def test_two_camps_are_found_by_the_nearest_users(data: RatingData, unseen: ImageFeatures) -> None:
    model = fit_nearest_users(data)
    for user in (0, 1, 14, 29):
        assert correlation(model.predict(unseen, [f"p{user}"] * len(unseen)).mean, truth(unseen.features, user)) > 0.97
    few = data.images[torch.arange(6)]
    for user in (0, 1):
        new = model.introduce("new", few, truth(few.features, user) + 0.7, {"camp": "even"})
        answer = new.predict(unseen, ["new"] * len(unseen)).mean
        assert correlation(answer, truth(unseen.features, user)) > 0.95
        assert 0.3 < float((answer - truth(unseen.features, user)).mean()) < 0.75  # a bias is half believed at once


def test_without_ratings_all_people_are_equally_near(data: RatingData, unseen: ImageFeatures) -> None:
    model = fit_nearest_users(data)
    silent = model.introduce("new", unseen[:0], torch.zeros(0)).predict(unseen, ["new"] * len(unseen)).mean
    torch.testing.assert_close(silent, model.predict_population(unseen))
    rows = model.population.standardisation(unseen.features)
    everybody = model.population.predict_standardised(rows)[:, None] + rows @ model.axes @ model.slopes.T
    torch.testing.assert_close(silent, everybody.mean(dim=1).float())


def test_neighbours_weigh_by_the_likelihood_of_the_ratings_with_the_bias_integrated_out() -> None:
    draws = torch.Generator().manual_seed(1)
    surfaces, design = (torch.randn(n, 3, dtype=torch.float64, generator=draws) for n in (4, 5))
    left = torch.randn(5, dtype=torch.float64, generator=draws)
    noise, bias_penalty = 0.8, 2.0
    covariance = noise * (torch.eye(5) + torch.ones(5, 5) / bias_penalty).double()
    densities = torch.distributions.MultivariateNormal(design @ surfaces.T[:, :].new_zeros(3), covariance)
    weights = densities.log_prob(left - surfaces @ design.T).softmax(dim=0)
    place = Neighbourhood(1.0, 4, 1.0, noise, bias_penalty).fit_user(surfaces, design, left)
    torch.testing.assert_close(place[1:], weights @ surfaces)
    nearest = weights.topk(2).indices
    two = Neighbourhood(1.0, 2, 1.0, noise, bias_penalty).fit_user(surfaces, design, left)
    torch.testing.assert_close(two[1:], (weights[nearest] / weights[nearest].sum()) @ surfaces[nearest])


def test_a_surface_is_that_person_s_ridge_regression(data: RatingData) -> None:
    model = fit_nearest_users(data)
    rows = model.population.standardisation(data.images.features)
    mine = data.train[data.train.users == 7]
    x = np.c_[np.ones(len(mine)), (rows @ model.axes)[mine.images].numpy()]
    left = (mine.ratings - model.population.predict_standardised(rows[mine.images])).numpy()
    penalties = np.diag([model.rule.bias_penalty] + [model.rule.penalty] * (x.shape[1] - 1))
    np.testing.assert_allclose(model.slopes[7], np.linalg.solve(x.T @ x + penalties, x.T @ left)[1:], rtol=1e-8)


def test_pictures_that_are_nothing_but_identities_make_collaborative_filtering() -> None:
    generator = torch.Generator().manual_seed(2)
    count, liked = 40, torch.randn(2, 40, generator=generator).double()
    users, images = (part.flatten() for part in torch.meshgrid(torch.arange(30), torch.arange(count), indexing="ij"))
    chosen = torch.rand(len(users), generator=generator) < 0.7
    users, images = users[chosen], images[chosen]
    given = 3 + liked[users % 2, images] + 0.3 * torch.randn(len(users), generator=generator).double()
    image_features = ImageFeatures(torch.eye(count))
    data = RatingData(image_features, RatingTensors(users, images, given), tuple(str(user) for user in range(30)))
    model = fit_nearest_users(data)
    few, rest = torch.arange(8), torch.arange(8, count)
    for group in (0, 1):
        new = model.introduce("new", image_features[few], 3 + liked[group, few])
        assert correlation(new.predict(image_features[rest], ["new"] * len(rest)).mean, liked[group, rest]) > 0.9
    assert correlation(model.predict_population(image_features), liked.mean(dim=0)) > 0.9


@pytest.mark.parametrize("fit", FITS[1:])
def test_one_person_with_one_rating_is_enough(fit: Fit) -> None:
    image_features = ImageFeatures(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 2.0]]))
    train = RatingTensors(torch.tensor([0]), torch.tensor([0]), torch.tensor([4.0], dtype=torch.float64))
    held_out = RatingTensors(torch.tensor([0]), torch.tensor([1]), torch.tensor([3.0], dtype=torch.float64))
    model = fit(RatingData(image_features, train, ("a", "silent"), held_out))
    torch.testing.assert_close(model.predict(image_features, ["a", "silent", "a"]).mean, torch.full((3,), 4.0))


@each_fit
def test_pictures_outside_training_and_validation_are_never_looked_at(fit: Fit, data: RatingData) -> None:
    features = data.images.features.clone()
    features[UNSEEN] = float("nan")
    clean, spoilt = fit(data), fit(replace(data, images=replace(data.images, features=features)))
    assert clean.config() == spoilt.config()
    for name, value in clean.tensors().items():
        assert torch.equal(value, spoilt.tensors()[name]), name


@pytest.mark.parametrize("fit", FITS[1:])
def test_features_are_standardised_by_training_pictures_alone(fit: Fit, data: RatingData) -> None:
    features = data.images.features.clone()
    features[:, 5] = 0.25  # never varies
    model = fit(replace(data, images=replace(data.images, features=features)))
    standardisation = getattr(model, "population", model).standardisation
    support = features[data.train.images.unique()].double().numpy()
    np.testing.assert_allclose(standardisation.feature_mean, support.mean(axis=0))
    np.testing.assert_allclose(standardisation.feature_std, [*support.std(axis=0)[:5], 1.0])


@pytest.mark.parametrize("fit", FITS[1:])
def test_gradients_reach_the_features(fit: Fit, data: RatingData, unseen: ImageFeatures) -> None:
    features = unseen.features.clone().requires_grad_(True)
    fit(data).predict(ImageFeatures(features), ["p3"] * len(unseen)).mean.sum().backward()
    assert features.grad is not None
    assert (features.grad != 0).all()


@each_fit
def test_people_in_one_batch_get_what_each_gets_alone(fit: Fit, data: RatingData, unseen: ImageFeatures) -> None:
    model, users = fit(data), ["p3", "p8", "p3", "p20"]
    alone = [model.predict(unseen[torch.tensor([row])], [user]).mean for row, user in enumerate(users)]
    torch.testing.assert_close(model.predict(unseen[torch.arange(4)], users).mean, torch.cat(alone))


@each_fit
def test_a_saved_model_comes_back_exactly(fit: Fit, data: RatingData, unseen: ImageFeatures, tmp_path: Path) -> None:
    known = fit(data).introduce("new", unseen[:2], torch.tensor([1.0, 5.0]), {"camp": "odd"})
    save_file(known.tensors(), str(tmp_path / "model.safetensors"))
    config = json.loads(json.dumps(known.config(), allow_nan=False))
    back = type(known).restore(load_file(str(tmp_path / "model.safetensors")), config)
    users = [*known.user_ids[-1:], *known.user_ids[: len(unseen) - 1]]
    one, other = (model.predict(unseen, users).mean for model in (known, back))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert torch.equal(known.noise_std(users), back.noise_std(users))
    again = [
        model.introduce("p0", unseen[:3], torch.tensor([1.0, 2.0, 5.0])).predict(unseen, users)
        for model in (known, back)
    ]
    torch.testing.assert_close(again[0].mean, again[1].mean, rtol=1e-6, atol=1e-6)
    assert back.config() == known.config()


@each_fit
def test_the_same_seed_gives_the_same_model_and_the_caller_s_randomness_is_untouched(
    fit: Fit, data: RatingData
) -> None:
    state = torch.random.get_rng_state()
    alone = replace(data, validation=None)
    first, second = fit(alone, seed=3), fit(alone, seed=3)
    assert first.config() == second.config()
    assert all(torch.equal(value, second.tensors()[name]) for name, value in first.tensors().items())
    assert torch.equal(state, torch.random.get_rng_state())


@each_fit
def test_strangers_are_refused_and_people_introduced_anew_are_known_once(
    fit: Fit, data: RatingData, unseen: ImageFeatures
) -> None:
    model = fit(data)
    with pytest.raises(UnknownUserError, match=r"does not know user 'eve'; it knows 30 people \(p0, p1, p2, …\)"):
        model.predict(unseen[:1], ["eve"])
    with pytest.raises(UnknownUserError, match="'eve'"):
        model.noise_std(["eve"])
    anew = model.introduce("p0", unseen[:1], torch.ones(1))
    assert sorted(anew.user_ids) == sorted(model.user_ids)
    assert model.user_ids == data.user_ids


@each_fit
def test_no_ratings_are_refused(fit: Fit, data: RatingData) -> None:
    nothing = data.train[torch.zeros(0, dtype=torch.int64)]
    with pytest.raises(DataError, match="there are 0 training ratings; a model of ratings needs at least one"):
        fit(replace(data, train=nothing))
