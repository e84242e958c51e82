from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.baselines.transformer import PreferenceTransformer, _Layer, encode_demographics
from pamela_rl.rewards.baselines.transformer_fit import TransformerConfig, fit_transformer
from pamela_rl.rewards.preference import ImageFeatures, RatingData, RatingTensors
from pamela_rl.rewards.rating_tensors import hold_out_images

NUM_PICTURES, NUM_USERS = 240, 40
TRAIN, HELD, UNSEEN = range(160), range(160, 200), range(200, 240)  # rows of pictures
SMALL = TransformerConfig(width=32, num_heads=2, dropout=0.0, num_epochs=16, learning_rate=6e-3, batch_size=128)
HASTY = replace(SMALL, width=8, num_layers=1, num_epochs=2)


def user_table() -> pd.DataFrame:
    ages = np.linspace(20, 60, NUM_USERS)
    index = [f"p{row}" for row in range(NUM_USERS)]
    return pd.DataFrame({"age": ages, "camp": ["red", "blue"] * (NUM_USERS // 2)}, index=index)


def truth(features: Tensor, camp: str, age: float) -> Tensor:
    """Camps want opposite things of the picture, the old want more of the prompt, all like the product."""
    return 3 + (1 if camp == "red" else -1) * features[:, 0] + (age - 40) / 12 * features[:, 4] + features[:, 8]


def made_up(metadata: bool = False) -> RatingData:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(NUM_PICTURES, 12, generator=generator)
    codes = torch.randint(3, (NUM_PICTURES, 2), generator=generator) if metadata else None
    table = user_table()

    def rated(image_features: range, each: int) -> RatingTensors:
        users = torch.arange(NUM_USERS).repeat_interleave(each)
        images = torch.randint(image_features.start, image_features.stop, (len(users),), generator=generator)
        means = torch.stack([truth(features, row.camp, row.age) for row in table.itertuples()])[users, images]
        if codes is not None:
            means = means + 2.0 * (codes[images, 1] == 2)
        return RatingTensors(users, images, (means + 0.3 * torch.randn(len(users), generator=generator)).double())

    return RatingData(
        ImageFeatures(features, codes), rated(TRAIN, 50), tuple(table.index), rated(HELD, 10), demographics=table
    )


@pytest.fixture(scope="module")
def data() -> RatingData:
    return made_up()


@pytest.fixture(scope="module")
def model(data: RatingData) -> PreferenceTransformer:
    return fit_transformer(data, SMALL)


@pytest.fixture(scope="module")
def unseen(data: RatingData) -> ImageFeatures:
    return data.images[torch.tensor(UNSEEN)]


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


def test_taste_that_follows_demographics_is_found_and_the_population_s_is_not_taken_for_it(
    data: RatingData, model: PreferenceTransformer, unseen: ImageFeatures
) -> None:
    for user in ("p0", "p1", "p38", "p39"):
        wanted = truth(unseen.features, *data.demographics.loc[user, ["camp", "age"]])  # type: ignore[union-attr]
        assert correlation(model.predict(unseen, [user] * len(unseen)).mean, wanted) > 0.85
        assert correlation(model.predict_population(unseen), wanted) < 0.75


def test_somebody_new_is_predicted_from_what_they_report_and_ratings_change_nothing(
    model: PreferenceTransformer, unseen: ImageFeatures
) -> None:
    reported = {"age": 55, "camp": "blue"}
    silent = model.introduce("new", unseen[:0], torch.zeros(0), reported)
    given = model.introduce("new", unseen, 5 * torch.ones(len(unseen)), reported)
    answer = given.predict(unseen, ["new"] * len(unseen)).mean
    assert torch.equal(silent.predict(unseen, ["new"] * len(unseen)).mean, answer)
    assert correlation(answer, truth(unseen.features, "blue", 55.0)) > 0.9
    assert "new" not in model.user_ids


def test_somebody_known_who_is_introduced_anew_is_known_once(
    model: PreferenceTransformer, unseen: ImageFeatures
) -> None:
    anew = model.introduce("p0", unseen[:0], torch.zeros(0), {"age": 60, "camp": "blue"})
    assert sorted(anew.user_ids) == sorted(model.user_ids)
    old, new = (m.predict(unseen, ["p0"] * len(unseen)).mean for m in (model, anew))
    assert correlation(old, new) < 0.5


@pytest.mark.parametrize(
    "reported", [None, {}, {"age": None, "camp": "green"}, {"age": float("nan")}, {"age": "old", "height": 3}]
)
def test_missing_unknown_and_unheard_of_demographics_are_ordinary(
    model: PreferenceTransformer, unseen: ImageFeatures, reported: dict[str, object] | None
) -> None:
    somebody = model.introduce("new", unseen[:0], torch.zeros(0), reported)
    answer = somebody.predict(unseen, ["new"] * len(unseen)).mean
    torch.testing.assert_close(answer, model.predict_population(unseen))


def test_people_become_standardised_numbers_and_places_of_categories(model: PreferenceTransformer) -> None:
    ages = user_table()["age"].to_numpy()
    row = encode_demographics(model.coding, {"camp": "red", "age": "50"})
    torch.testing.assert_close(row.double(), torch.tensor([(50 - ages.mean()) / ages.std(), 1.0]).double())
    nan = torch.full((2,), float("nan"))
    torch.testing.assert_close(encode_demographics(model.coding, {"camp": 3, "age": "fifty"}), nan, equal_nan=True)


def test_people_without_a_row_are_ordinary(data: RatingData) -> None:
    few = fit_transformer(replace(data, demographics=user_table().iloc[:20]), HASTY)
    nobody = fit_transformer(replace(data, demographics=None), HASTY)
    assert few.predict(data.images[torch.arange(2)], ["p0", "p39"]).mean.isfinite().all()
    assert torch.equal(
        nobody.predict(data.images[torch.arange(2)], ["p0"] * 2).mean,
        nobody.predict_population(data.images[torch.arange(2)]),
    )


def test_unknown_is_learned_to_mean_anybody(model: PreferenceTransformer, unseen: ImageFeatures) -> None:
    everybody = [model.predict(unseen, [user] * len(unseen)).mean for user in model.user_ids]
    average = torch.stack(everybody).mean(dim=0)
    apart = (model.predict_population(unseen) - average).square().mean().sqrt()
    assert apart < 0.35 * torch.stack(everybody).std(dim=0).mean()
    red = model.introduce("red", unseen[:0], torch.zeros(0), {"camp": "red"}).predict(unseen, ["red"] * len(unseen))
    assert correlation(red.mean, truth(unseen.features, "red", 40.0)) > 0.9  # one column is enough


def test_metadata_is_used_and_what_training_never_showed_is_unknown() -> None:
    data = made_up(metadata=True)
    model = fit_transformer(data, SMALL)
    support = data.images[torch.tensor(UNSEEN)]
    codes = torch.tensor([0, 2]).expand(len(support), 2)

    def ask(metadata: Tensor | None) -> Tensor:
        return model.predict(ImageFeatures(support.features, metadata), ["p3"] * len(support)).mean

    plain = ask(torch.tensor([0, 1]).expand(len(support), 2))
    assert (ask(codes) - plain).mean() > 1.2
    nothing = ask(None)
    assert torch.equal(nothing, ask(torch.zeros_like(codes)))
    assert torch.equal(nothing, ask(torch.tensor([7, -1]).expand(len(support), 2)))
    assert 0.2 < (nothing - plain).mean() < 1.1  # anything: a third of the pictures has the 2 that adds 2


def test_a_code_below_the_highest_that_training_never_showed_is_unknown(data: RatingData) -> None:
    codes = torch.tensor([[1], [3]]).repeat(NUM_PICTURES // 2, 1)
    model = fit_transformer(replace(data, images=replace(data.images, metadata=codes)), HASTY)
    answers = [
        model.predict_population(ImageFeatures(data.images.features[:1], torch.tensor([[code]])))
        for code in (0, 1, 2, 3)
    ]
    with pytest.raises(DataError, match="pictures have 2 columns of metadata, but the transformer was fitted to 1"):
        model.predict_population(ImageFeatures(data.images.features[:1], torch.zeros(1, 2, dtype=torch.int64)))
    assert torch.equal(answers[0], answers[2])
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[3])


def test_pictures_outside_training_and_validation_are_never_looked_at(data: RatingData) -> None:
    features = data.images.features.clone()
    features[UNSEEN] = float("nan")
    spoilt = fit_transformer(replace(data, images=ImageFeatures(features)), HASTY).tensors()
    for name, value in fit_transformer(data, HASTY).tensors().items():
        assert torch.equal(value, spoilt[name]), name


def test_features_are_standardised_by_training_pictures_alone(data: RatingData) -> None:
    features = data.images.features.clone()
    features[:, 7] = 0.25  # never varies
    model = fit_transformer(replace(data, images=ImageFeatures(features)), HASTY)
    support = features[data.train.images.unique()].numpy()
    torch.testing.assert_close(model.network.feature_mean, torch.tensor(support.mean(axis=0)))
    spread = torch.tensor(support.std(axis=0))
    spread[7] = 1
    torch.testing.assert_close(model.network.feature_std, spread)


def test_the_units_of_features_do_not_matter(data: RatingData) -> None:
    image_features = ImageFeatures(data.images.features * 40 - 7)
    plain, scaled = fit_transformer(data, HASTY), fit_transformer(replace(data, images=image_features), HASTY)
    answers = (
        plain.predict(data.images[torch.arange(9)], ["p5"] * 9).mean,
        scaled.predict(image_features[torch.arange(9)], ["p5"] * 9).mean,
    )
    torch.testing.assert_close(*answers, rtol=0, atol=1e-2)


def test_without_validation_ratings_a_tenth_of_the_training_pictures_is_held_out(data: RatingData) -> None:
    train, held_out = hold_out_images(data.train, HASTY.seed)
    split = fit_transformer(replace(data, train=train, validation=held_out), HASTY)
    alone = fit_transformer(replace(data, validation=None), HASTY)
    assert split.noise == alone.noise
    assert all(torch.equal(value, alone.tensors()[name]) for name, value in split.tensors().items())


def test_noise_is_the_spread_of_validation_ratings_around_the_kept_model_and_there_is_no_other_std(
    data: RatingData, model: PreferenceTransformer
) -> None:
    held_out = data.validation
    assert held_out is not None
    output = model.predict(data.images[held_out.images], [data.user_ids[user] for user in held_out.users])
    errors = (output.mean.double() - held_out.ratings).numpy()
    torch.testing.assert_close(
        model.noise_std(["p1", "p2"]).double(),
        torch.full((2,), np.sqrt(np.mean(errors**2))),
        check_dtype=False,
        rtol=1e-5,
        atol=0,
    )
    assert output.std is None


def test_the_same_seed_gives_the_same_model_and_the_caller_s_randomness_is_untouched(data: RatingData) -> None:
    torch.manual_seed(11)
    first = fit_transformer(data, HASTY).tensors()
    drawn = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(1))
    second, other = (fit_transformer(data, replace(HASTY, seed=seed)).tensors() for seed in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["network.readout"], other["network.readout"])


def test_gradients_reach_the_features(model: PreferenceTransformer, unseen: ImageFeatures) -> None:
    features = unseen.features.clone().requires_grad_(True)
    model.predict(ImageFeatures(features), ["p2"] * len(unseen)).mean.sum().backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert (features.grad != 0).any(dim=0).all()


def test_people_in_one_batch_get_what_each_gets_alone(model: PreferenceTransformer, unseen: ImageFeatures) -> None:
    users = ["p3", "p8", "p3", "p20"]
    alone = [model.predict(unseen[torch.tensor([row])], [user]).mean for row, user in enumerate(users)]
    torch.testing.assert_close(model.predict(unseen[torch.arange(4)], users).mean, torch.cat(alone))


def test_a_saved_model_comes_back_exactly(model: PreferenceTransformer, unseen: ImageFeatures, tmp_path: Path) -> None:
    known = model.introduce("new", unseen[:0], torch.zeros(0), {"age": 30})
    save_file(known.tensors(), str(tmp_path / "model.safetensors"))
    config = json.loads(json.dumps(known.config(), allow_nan=False))
    back = PreferenceTransformer.restore(load_file(str(tmp_path / "model.safetensors")), config)
    users = ["new", *list(known.user_ids[: len(unseen) - 1])]
    assert torch.equal(known.predict(unseen, users).mean, back.predict(unseen, users).mean)
    assert (back.config(), back.coding, back.user_ids) == (known.config(), known.coding, known.user_ids)
    assert not back.network.training


def test_a_layer_is_the_textbook_s_and_its_first_token_can_be_had_alone() -> None:
    torch.manual_seed(0)
    layer, width = _Layer(8, 2, 0.0), 8
    reference = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    attention = reference.self_attn
    attention.in_proj_weight.data = torch.cat([layer.query.weight, layer.key_value.weight])
    attention.in_proj_bias.data = torch.cat([layer.query.bias, layer.key_value.bias])
    pairs = [
        (attention.out_proj, layer.out),
        (reference.linear1, layer.feed[0]),
        (reference.linear2, layer.feed[2]),
        (reference.norm1, layer.before_attention),
        (reference.norm2, layer.before_feed),
    ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    tokens = torch.randn(3, 5, width)
    torch.testing.assert_close(layer(tokens, only_first=False), reference(tokens))
    torch.testing.assert_close(layer(tokens, only_first=True), reference(tokens)[:, :1])


def test_what_cannot_be_learned_from_is_refused(data: RatingData) -> None:
    nothing = data.train[torch.zeros(0, dtype=torch.int64)]
    with pytest.raises(DataError, match="there are 0 training and 400 validation ratings; both are needed"):
        fit_transformer(replace(data, train=nothing), HASTY)
    with pytest.raises(DataError, match="pictures have 11 features; the transformer needs image, prompt and product"):
        fit_transformer(replace(data, images=ImageFeatures(data.images.features[:, :11])), HASTY)


def test_a_stranger_is_refused(model: PreferenceTransformer, unseen: ImageFeatures) -> None:
    with pytest.raises(UnknownUserError, match=r"does not know user 'eve'; it knows 40 people \(p0, p1, p2, …\)"):
        model.predict(unseen[:1], ["eve"])
    with pytest.raises(UnknownUserError, match="'eve'"):
        model.noise_std(["eve"])
