from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pamela_rl.errors import UnknownUserError
from pamela_rl.world.captions import caption
from pamela_rl.world.corruptions import corrupt
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import FEATURES, NOISE, Raters, TrueRating, image_features, make_raters
from pamela_rl.world.scenes import SUBJECTS, draw_scenes, random_scenes

SCENES = random_scenes(300, 61)
PROMPTS = [caption(scene, set()) for scene in SCENES]


@pytest.fixture(scope="module")
def drawings() -> Tensor:
    return torch.from_numpy(draw_scenes(SCENES, 62)).permute(0, 3, 1, 2).float() / 255


def opposites(raters: Raters, feature: str) -> Raters:
    """Two people who care about one feature alone, and like it at its two ends."""
    ideal, weight = np.zeros((2, len(FEATURES))), np.zeros((2, len(FEATURES)))
    ideal[:, FEATURES.index(feature)] = (1.5, -1.5)
    weight[:, FEATURES.index(feature)] = 1.0
    zeros = np.zeros(2)
    return Raters(
        ("high", "low"), ideal, weight, np.zeros((2, len(SUBJECTS))), zeros, zeros + 0.5, raters.demographics[:2]
    )


@pytest.mark.parametrize("feature", ["lightness", "colourfulness", "warmth", "detail", "size"])
def test_opposite_ideal_points_give_opposite_ratings(
    raters: Raters, content_judge: ContentJudge, drawings: Tensor, feature: str
) -> None:
    expected = opposites(raters, feature).expected_ratings(drawings, PROMPTS, content_judge)
    value = image_features(drawings, content_judge)[:, FEATURES.index(feature)].double()
    high, low = (torch.corrcoef(torch.stack([expected[:, person], value]))[0, 1] for person in (0, 1))
    assert high > 0.7
    assert low < -0.7
    assert torch.corrcoef(expected.T)[0, 1] < -0.5


def test_a_picture_at_the_ideal_point_is_liked_better_than_one_beyond_it(
    raters: Raters, content_judge: ContentJudge, drawings: Tensor
) -> None:
    person = opposites(raters, "lightness")
    steps = torch.linspace(-1, 1, 41)[:, None, None, None]
    images = (drawings[:1] * 0.2 + 0.4 + 0.4 * steps).clamp(0, 1)
    light = image_features(images, content_judge)[:, 0]
    # the judge may take very dark or bright pictures for spoilt ones; what the person thinks of lightness is asked here
    strict = replace(person, scale=np.full(2, 50.0), bias=np.full(2, -50 * (1 + 1.5**2)))
    expected = strict.expected_ratings(images, [""] * 41, content_judge)
    best = light[expected.argmax(dim=0)]
    assert best[0].item() == pytest.approx(1.5, abs=0.2)
    assert best[1].item() == pytest.approx(-1.5, abs=0.2)


def test_features_of_drawings_are_centred_with_unit_spread(content_judge: ContentJudge, drawings: Tensor) -> None:
    features = image_features(drawings, content_judge)
    assert features.shape == (300, len(FEATURES))
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(8), atol=0.25, rtol=0)
    torch.testing.assert_close(features.std(dim=0), torch.ones(8), atol=0.25, rtol=0)


def test_features_measure_what_they_are_called(content_judge: ContentJudge, drawings: Tensor) -> None:
    before = image_features(drawings, content_judge)

    def change(images: Tensor, feature: str) -> Tensor:
        place = FEATURES.index(feature)
        return image_features(images.clamp(0, 1), content_judge)[:, place] - before[:, place]

    warmer = drawings * torch.tensor([1.0, 0.95, 0.7])[None, :, None, None]
    grey = drawings.mean(dim=1, keepdim=True).expand_as(drawings)
    folded = torch.cat([drawings[..., :32], drawings[..., :32].flip(-1)], dim=-1)
    assert (change(drawings * 0.7, "lightness") < 0).all()
    assert (change(0.5 + (drawings - 0.5) * 0.5, "contrast") < 0).all()
    assert (change(warmer, "warmth") > 0).all()
    assert (change(grey, "colourfulness") < 0).all()
    assert (change(folded, "symmetry") > 0).all()
    right = torch.tensor([scene.placement == "right" for scene in SCENES])
    left = torch.tensor([scene.placement == "left" for scene in SCENES])
    assert before[right, FEATURES.index("side")].mean() > 1 > -1 > before[left, FEATURES.index("side")].mean()


def test_pictures_of_something_else_and_spoilt_pictures_are_liked_less(
    raters: Raters, content_judge: ContentJudge, drawings: Tensor
) -> None:
    sound = raters.expected_ratings(drawings, PROMPTS, content_judge)
    others = [f"a {SUBJECTS[(SUBJECTS.index(scene.subject) + 3) % 8]}" for scene in SCENES]
    neutral = replace(raters, affinity=np.zeros_like(raters.affinity))
    requested = neutral.expected_ratings(drawings, PROMPTS, content_judge)
    unfaithful = neutral.expected_ratings(drawings, others, content_judge)
    assert (unfaithful <= requested + 1e-3).all()
    assert (requested - unfaithful).mean() > 0.7
    corrupted = raters.expected_ratings(corrupt(drawings, torch.Generator().manual_seed(0)), PROMPTS, content_judge)
    assert (corrupted.mean(dim=0) < sound.mean(dim=0)).all()
    assert (sound - corrupted).mean() > 0.5


def test_expectations_stay_within_the_scale_and_differ_between_people(
    raters: Raters, content_judge: ContentJudge, drawings: Tensor
) -> None:
    expected = raters.expected_ratings(drawings, PROMPTS, content_judge)
    assert expected.shape == (300, 200)
    assert expected.min() >= 1
    assert expected.max() <= 5
    likeness = torch.corrcoef(expected.T)
    assert likeness.min() < -0.5
    assert likeness.max(dim=0).values.min() == pytest.approx(1)


def test_a_rating_is_a_whole_number_around_what_its_own_user_expects(raters: Raters) -> None:
    expected = torch.full((30_000, 2), 5.0, dtype=torch.float64)
    expected[:, 1] = torch.linspace(2.5, 3.5, 30_000)
    given = raters.rate(expected, np.ones(30_000, dtype=np.int64), np.random.default_rng(0))
    assert given.dtype == np.int64
    assert set(np.unique(given)) == {1, 2, 3, 4, 5}
    error = given - expected[:, 1].numpy()
    assert error.mean() == pytest.approx(0, abs=0.02)
    assert error.std() == pytest.approx((NOISE**2 + 1 / 12) ** 0.5, rel=0.03)  # noise, and rounding to whole numbers


def explained(values: NDArray[np.float64], reported: NDArray[np.float64]) -> float:
    """Return the share of the variance of values that a linear model of what people report explains."""
    design = np.c_[np.ones(len(reported)), reported]
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - left.var(axis=0).sum() / values.var(axis=0).sum())


def test_tastes_follow_in_part_from_what_people_report(raters: Raters) -> None:
    reported = pd.get_dummies(raters.demographics, drop_first=True).to_numpy(dtype=np.float64)
    shuffled = [explained(raters.ideal, np.random.default_rng(s).permutation(reported)) for s in range(50)]
    assert explained(raters.ideal, reported) > max(shuffled) + 0.05
    assert explained(raters.ideal, reported) < 0.5


def test_people_repeat_with_their_seed_and_differ_between_seeds(raters: Raters) -> None:
    again = make_raters()
    np.testing.assert_array_equal(again.ideal, raters.ideal)
    pd.testing.assert_frame_equal(again.demographics, raters.demographics)
    assert not np.array_equal(make_raters(seed=8).ideal, raters.ideal)
    assert len(set(raters.user_ids)) == 200
    assert list(raters.demographics.index) == list(raters.user_ids)


def test_a_person_is_described_by_what_matters_most_to_them(raters: Raters) -> None:
    people = opposites(raters, "warmth")
    people.weight[:, FEATURES.index("size")], people.ideal[:, FEATURES.index("size")] = 0.5, (-1, 1)
    assert people.describe("high", count=2) == "warm colours and distant views"
    assert people.describe("low", count=2) == "cool colours and close-ups"


def test_the_true_rating_is_each_pictures_own_users(
    raters: Raters, content_judge: ContentJudge, drawings: Tensor
) -> None:
    users = ["rater-003", "rater-150", "rater-003"]
    output = TrueRating(raters, content_judge)(drawings[:3], PROMPTS[:3], users)
    expected = raters.expected_ratings(drawings[:3], PROMPTS[:3], content_judge)
    torch.testing.assert_close(output.mean, torch.stack([expected[0, 3], expected[1, 150], expected[2, 3]]).float())


def test_nobody_of_that_name_is_an_error_in_plain_words(
    raters: Raters, content_judge: ContentJudge, drawings: Tensor
) -> None:
    sentence = r"^nobody in the world is called 'eve'; ids run from rater-000 to rater-199\.$"
    with pytest.raises(UnknownUserError, match=sentence):
        TrueRating(raters, content_judge)(drawings[:1], PROMPTS[:1], ["eve"])
    with pytest.raises(UnknownUserError, match=sentence):
        raters.describe("eve")
