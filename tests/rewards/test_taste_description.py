from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from pamela_rl.data.phrases import PHOTOGRAPHIC
from pamela_rl.errors import DataError, UnknownUserError
from pamela_rl.rewards.baselines.population_baselines import PopulationMean
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.phrase_detection import PhraseProbabilities, detect_phrases, without_phrases
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures
from pamela_rl.rewards.taste_description import PhraseEffect, TasteDescription, _effects, describe_taste
from pamela_rl.world.captions import PHRASEBOOK, PHRASES
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters
from pamela_rl.world.ratings import draw_rated_images
from pamela_rl.world.scenes import draw_scenes, random_scenes

DOUBLE = torch.float64


@pytest.fixture(scope="module")
def references() -> tuple[Tensor, tuple[str, ...]]:
    return draw_rated_images(400, seed=21)


@pytest.fixture(scope="module")
def pixel_reward() -> PersonalReward:
    """Two people who differ in one direction; nothing was fitted."""
    torch.manual_seed(3)
    network = TasteFeatures(768, 2, num_layers=0).eval().requires_grad_(False)
    means = torch.tensor([[0.0, 2.0, -1.0], [0.5, -2.0, 1.0]], dtype=DOUBLE)
    root = torch.randn(2, 3, 3, dtype=DOUBLE)
    noise = Noise(torch.full((2,), 0.3, dtype=DOUBLE), misfit=0.05, log_mean=-1.0, log_std=0.5, floor=0.01)
    coding = DemographicsCoding.of(None)
    covariances = root @ root.mT / 10
    prior = (torch.zeros(3, 1, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    return PersonalReward(PixelEncoder(), TasteBasis(network, coding, *prior, noise, ("ada", "bo"), means, covariances))


def true_effects(raters: Raters, judge: ContentJudge) -> dict[str, Tensor]:
    """What each phrase adds to everyone's true rating of drawn scenes that show it, ``(u,)``."""
    scenes = random_scenes(800, seed=77)
    drawn = torch.from_numpy(draw_scenes(scenes, seed=78)).permute(0, 3, 1, 2).float() / 255
    expected = raters.expected_ratings(drawn, [f"a {scene.subject}" for scene in scenes], judge)
    effects = {}
    for name, phrases in PHRASES.items():
        for value, phrase in phrases.items():
            there = torch.tensor([scene.attribute(name) == value for scene in scenes])
            effects[phrase] = expected[there].mean(dim=0) - expected[~there].mean(dim=0)
    return effects


@pytest.mark.slow
def test_what_it_says_people_like_truly_pleases_them(
    world_reward: PersonalReward, raters: Raters, content_judge: ContentJudge, references: tuple[Tensor, list[str]]
) -> None:
    truth = true_effects(raters, content_judge)
    correlations, right = [], []
    for user in raters.user_ids[:6]:
        taste = describe_taste(world_reward, user, *references, PHRASEBOOK, num_draws=100)
        row = raters.index(user)
        estimated = [entry.effect for entry in taste.effects]
        true = [float(truth[entry.phrase][row]) for entry in taste.effects]
        correlations.append(spearmanr(estimated, true).statistic)
        right += [float(truth[entry.phrase][row]) > 0 for entry in taste.likes()]
        right += [float(truth[entry.phrase][row]) < 0 for entry in taste.dislikes()]
        assert taste.includes_uncertainty
    assert np.mean(correlations) > 0.5  # 0.63 over twenty people; a shuffled person's is about 0
    assert len(right) >= 8
    assert np.mean(right) > 0.8


def test_the_worlds_encoder_sees_light_and_leaves_placement_to_the_prompts(world_reward: PersonalReward) -> None:
    scenes = random_scenes(300, seed=5)
    drawn = torch.from_numpy(draw_scenes(scenes, seed=6)).permute(0, 3, 1, 2).float() / 255
    prompts = [f"a {scene.subject}" for scene in scenes]
    features = world_reward.encoder.encode(drawn, prompts)
    found = {part.attribute: part for part in detect_phrases(world_reward.encoder, features, prompts, PHRASEBOOK)}
    assert found.keys() == {"lighting", "palette", "viewpoint", "angle"}
    for name, at_least in {"lighting": 0.55, "palette": 0.65, "viewpoint": 0.9, "angle": 0.75}.items():
        values = list(PHRASES[name])
        support = [values[int(place)] for place in found[name].probabilities.argmax(dim=1)]
        assert np.mean([value == scene.attribute(name) for value, scene in zip(support, scenes)]) > at_least
    prompts = [f"{prompt}, on the left" if row < 30 else prompt for row, prompt in enumerate(prompts)]
    by_prompt = {part.attribute: part for part in detect_phrases(world_reward.encoder, features, prompts, PHRASEBOOK)}
    left, centre, right = by_prompt["placement"].probabilities[:30].unbind(dim=1)
    assert left.eq(1).all()
    assert centre.eq(0).all()
    assert right.eq(0).all()


def test_draws_of_a_taste_have_the_mean_and_the_spread_of_the_prediction(pixel_reward: PersonalReward) -> None:
    model = pixel_reward.model
    assert isinstance(model, TasteBasis)
    image_features = ImageFeatures(torch.rand(5, 768))
    drawn = model.sample(image_features, "bo", 40_000, seed=1)
    predicted = model.predict(image_features, ["bo"] * 5)
    assert predicted.std is not None
    torch.testing.assert_close(drawn.mean(dim=0).float(), predicted.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(dim=0).float(), predicted.std, atol=0.02, rtol=0)
    design = model.network(image_features.features)[1].double()
    joint = design @ model.covariances[1] @ design.T + 0.05 * torch.eye(5, dtype=DOUBLE)
    torch.testing.assert_close(torch.cov(drawn.T), joint, atol=0.02, rtol=0.05)
    assert torch.equal(drawn[:10], model.sample(image_features, "bo", 40_000, seed=1)[:10])


def test_effects_of_phrases_that_go_together_are_told_apart() -> None:
    numbers = np.random.default_rng(0)
    light = numbers.integers(3, size=2000)
    colour = np.where(numbers.random(2000) < 0.7, light % 2, numbers.integers(2, size=2000))
    one_hot = [torch.nn.functional.one_hot(torch.from_numpy(values)).double() for values in (light, colour)]
    support = [
        PhraseProbabilities("light", ("a", "b", "c"), one_hot[0]),
        PhraseProbabilities("colour", ("d", "e"), one_hot[1]),
    ]
    ratings = one_hot[0] @ torch.tensor([0.0, 1.0, -0.5], dtype=DOUBLE) + 0.4 * one_hot[1][:, 0]
    weights = torch.from_numpy(numbers.integers(1, 4, size=(1, 2000))).double()
    found = _effects(support, weights, ratings[None])[0]
    shares = (weights @ one_hot[0])[0] / weights.sum()
    against_a = (shares[1] * 1.0 + shares[2] * -0.5) / (shares[1] + shares[2])
    torch.testing.assert_close(found[0], 0 - against_a, atol=0.01, rtol=0)
    torch.testing.assert_close(found[3:], torch.tensor([0.4, -0.4], dtype=DOUBLE), atol=0.01, rtol=0)


def test_an_encoder_without_text_knows_what_prompts_name_alone(pixel_reward: PersonalReward) -> None:
    images = torch.rand(60, 3, 32, 32)
    images[::2] *= 0.3
    prompts = ["a boat, at night" if row % 2 == 0 else "a boat, at noon" for row in range(60)]
    taste = describe_taste(pixel_reward, "ada", images, prompts, PHRASEBOOK, num_draws=50)
    assert {row.phrase for row in taste.effects} == {"at night", "at noon"}
    expected = pixel_reward(images, prompts, ["ada"] * 60).mean.double()
    difference = float(expected[::2].mean() - expected[1::2].mean())
    effects = {row.phrase: row.effect for row in taste.effects}
    assert effects["at night"] == pytest.approx(difference * 30 / 32, abs=0.01)  # shrunk by one picture either way
    assert effects["at night"] == pytest.approx(-effects["at noon"])


def test_nothing_is_said_of_a_phrase_that_four_pictures_show(pixel_reward: PersonalReward) -> None:
    prompts = ["a boat, at night"] * 4 + ["a boat, at noon"] * 20 + ["a boat, in mist"] * 20
    taste = describe_taste(pixel_reward, "ada", torch.rand(44, 3, 16, 16), prompts, PHRASEBOOK, num_draws=20)
    assert {row.phrase for row in taste.effects} == {"at noon", "in mist"}


def test_doubt_about_a_taste_widens_its_intervals(pixel_reward: PersonalReward) -> None:
    model = pixel_reward.model
    assert isinstance(model, TasteBasis)
    images, prompts = torch.rand(80, 3, 16, 16), [f"a boat, {'at noon' if i % 2 else 'at night'}" for i in range(80)]
    images[::2] *= 0.5
    widths = []
    for factor in (1e-6, 1.0, 25.0):
        doubting = PersonalReward(pixel_reward.encoder, replace(model, covariances=factor * model.covariances))
        first = describe_taste(doubting, "bo", images, prompts, PHRASEBOOK, num_draws=200).effects[0]
        assert first.low < first.effect < first.high
        widths.append(first.high - first.low)
    assert widths[0] < 0.8 * widths[1]
    assert widths[1] < 0.5 * widths[2]


def test_a_model_that_draws_no_tastes_says_that_its_intervals_hold_pictures_alone(
    references: tuple[Tensor, tuple[str, ...]],
) -> None:
    nobody = torch.zeros(0, dtype=DOUBLE)
    model = PopulationMean(("ada",), torch.zeros(0, dtype=torch.int64), nobody, nobody, 3.0, 0.5, 0.6)
    reward = PersonalReward(PixelEncoder(), model)
    taste = describe_taste(reward, "ada", *references, PHRASEBOOK, num_draws=20)
    assert not taste.includes_uncertainty
    assert all(row.effect == pytest.approx(0, abs=1e-9) for row in taste.effects)


def test_exemplars_are_what_sets_a_person_apart(pixel_reward: PersonalReward) -> None:
    images, prompts = torch.rand(40, 3, 16, 16), ["a boat"] * 40
    taste = describe_taste(pixel_reward, "ada", images, prompts, PHRASEBOOK, num_draws=10, exemplars=3)
    ada, bo = (pixel_reward(images, prompts, [user] * 40).mean for user in ("ada", "bo"))
    assert list(taste.most_liked) == (ada - bo).argsort(descending=True)[:3].tolist()
    assert list(taste.least_liked) == (ada - bo).argsort()[:3].tolist()
    assert taste.effects == ()


def test_an_encoder_without_a_text_tower_says_that_it_finds_no_phrases_in_images(pixel_reward: PersonalReward) -> None:
    images, named = torch.rand(40, 3, 16, 16), ["a boat", "a boat, at night"] * 20
    taste = describe_taste(pixel_reward, "ada", images, ["a boat"] * 40, PHRASEBOOK, num_draws=10)
    assert "the encoder 'pixels' has no text tower" in taste.sentence()
    assert describe_taste(pixel_reward, "ada", images, named, PHRASEBOOK, num_draws=10).undetected == ""


def effect_of(phrase: str, effect: float, width: float = 0.2) -> PhraseEffect:
    return PhraseEffect("lighting", phrase, effect, effect - width, effect + width, 0.1)


def test_a_sentence_says_only_what_is_beyond_doubt_strongest_first() -> None:
    liked = (
        effect_of("at night", 1.2),
        effect_of("a close-up of", 0.5),
        effect_of("in mist", 0.1),
        effect_of("at noon", -0.1),
    )
    worse = (effect_of("in pastel colours", -0.4), effect_of("at sunset", -0.9))
    taste = TasteDescription("ada", liked + worse, (), (), includes_uncertainty=True)
    assert taste.sentence() == "likes at night, a close-up; dislikes at sunset, in pastel colours"
    assert taste.sentence(count=1) == "likes at night; dislikes at sunset"
    assert replace(taste, effects=worse).sentence() == "dislikes at sunset, in pastel colours"
    assert replace(taste, effects=liked[2:4]).sentence() == "likes nothing in particular"
    assert liked[0].personal_effect == pytest.approx(1.1)


def test_a_table_has_a_line_a_phrase_and_json_everything() -> None:
    taste = TasteDescription(
        "ada", (effect_of("at night", 1.25), effect_of("at noon", -0.3)), (4, 2), (0,), includes_uncertainty=False
    )
    heading, first, second = taste.table().splitlines()
    assert heading.split("  ")[0] == "phrase"
    assert first.split() == ["at", "night", "lighting", "+1.25", "[+1.05,", "+1.45]", "+0.10"]
    assert second.index("lighting") == first.index("lighting") == heading.index("attribute")
    read = json.loads(json.dumps(taste.to_json()))
    assert read["sentence"] == taste.sentence()
    assert read["effects"][1] == vars(taste.effects[1])
    assert (read["user_id"], read["most_liked"], read["includes_uncertainty"]) == ("ada", [4, 2], False)


def test_phrases_come_off_a_prompt_whole() -> None:
    prompt = PHRASEBOOK.apply(
        "a boat", {"viewpoint": "a close-up of", "lighting": "at night", "angle": "seen from above"}
    )
    assert without_phrases(prompt, PHRASEBOOK) == "a boat"
    assert without_phrases("A Wide View of a boat, In Mist", PHOTOGRAPHIC) == "a boat"
    assert without_phrases("a mistress at nightfall", PHRASEBOOK) == "a mistress at nightfall"


def test_what_does_not_pair_up_or_is_unknown_is_refused(pixel_reward: PersonalReward) -> None:
    with pytest.raises(DataError, match="12 reference pictures and 11 prompts"):
        describe_taste(pixel_reward, "ada", torch.rand(12, 3, 8, 8), ["a boat"] * 11, PHRASEBOOK)
    with pytest.raises(DataError, match="at least 10"):
        describe_taste(pixel_reward, "ada", torch.rand(9, 3, 8, 8), ["a boat"] * 9, PHRASEBOOK)
    with pytest.raises(UnknownUserError, match="does not know user 'eve'"):
        describe_taste(pixel_reward, "eve", torch.rand(12, 3, 8, 8), ["a boat"] * 12, PHRASEBOOK)
