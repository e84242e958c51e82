from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.opening import open_reward
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.saved import JUDGE, REWARDS
from pamela_rl.rewards.settings import MAIN_MODEL
from pamela_rl.rewards.taste.newcomer import PairChoices, add_choices, fit_newcomer, next_choice
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.storage import START_REWARD
from pamela_rl.studio.database.schema import Answer
from pamela_rl.studio.eyes import Eyes, open_eyes
from pamela_rl.studio.mind import Mind, learn
from pamela_rl.studio.progress import Known, learning_curve, look_ahead, measure
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.start_reward import EVERYBODY
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import make_raters
from pamela_rl.world.ratings import draw_rated_images

NUM_PICTURES = 160


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return open_eyes(StudioSettings())


@pytest.fixture(scope="module")
def features(eyes: Eyes) -> dict[str, Tensor]:
    images, prompts = draw_rated_images(NUM_PICTURES, 5)
    assert eyes.start is not None
    return dict(zip(map(str, range(NUM_PICTURES)), eyes.start.features(images, prompts).features, strict=True))


@pytest.fixture(scope="module")
def liked() -> np.ndarray:
    """True ratings of somebody whom the start reward was not fitted on."""
    images, prompts = draw_rated_images(NUM_PICTURES, 5)
    return make_raters(4, seed=3).expected_ratings(images, prompts, ContentJudge.load())[:, 1].numpy()


def rated(liked: np.ndarray, pictures: range) -> list[Answer]:
    return [
        Answer(id=n + 1, said="rating", picture_ids=[str(n)], value=float(np.rint(liked[n]))) for n in pictures
    ]  # fmt: skip


def test_the_shipped_reward_knows_nobody_and_has_a_judge_of_other_people_and_images() -> None:
    reward, judge = open_reward(START_REWARD / REWARDS / MAIN_MODEL), open_reward(START_REWARD / JUDGE)
    assert reward.model.user_ids == judge.model.user_ids == (EVERYBODY,)
    for part in ("users", "images"):
        own, others = getattr(reward.fitted_on, part), getattr(judge.fitted_on, part)
        assert own
        assert others
        assert not own & others
        assert not any("rater" in name or "world" in name for name in own | others)
    assert sum(file.stat().st_size for file in (START_REWARD / REWARDS).rglob("*")) < 900_000


def test_answers_one_by_one_come_to_what_all_at_once_do_and_to_what_the_reward_does_alone(
    eyes: Eyes, features: dict[str, Tensor], liked: np.ndarray
) -> None:
    answers, mind = rated(liked, range(12)), None
    for count in range(1, 13):
        mind = learn(eyes, mind, answers[:count], features)
    assert mind is not None
    assert eyes.start is not None
    assert isinstance(eyes.start.model, TasteBasis)
    images = ImageFeatures(torch.stack([features[str(n)] for n in range(12)]))
    given = torch.tensor([answer.value for answer in answers], dtype=torch.float64)
    alone = fit_newcomer(eyes.start.model, images, given)
    torch.testing.assert_close(mind.posterior.mean, alone.mean, rtol=1e-4, atol=1e-5)
    at_once = learn(eyes, None, answers, features)
    assert at_once is not None
    torch.testing.assert_close(mind.posterior.mean, at_once.posterior.mean, rtol=1e-4, atol=1e-5)


def test_an_answer_that_was_taken_back_is_forgotten(eyes: Eyes, features: dict[str, Tensor], liked: np.ndarray) -> None:
    answers = rated(liked, range(6))
    whole = learn(eyes, None, answers, features)
    fewer = learn(eyes, whole, answers[:5], features)
    afresh = learn(eyes, None, answers[:5], features)
    assert fewer is not None
    assert afresh is not None
    assert whole is not None
    torch.testing.assert_close(fewer.posterior.mean, afresh.posterior.mean)
    assert not torch.allclose(whole.posterior.mean, afresh.posterior.mean)


def test_a_newcomer_is_foretold_better_with_every_answer_and_the_line_says_how_well(
    eyes: Eyes, features: dict[str, Tensor], liked: np.ndarray
) -> None:
    measuring, taught = rated(liked, range(60)), rated(liked, range(60, NUM_PICTURES))
    curve = learning_curve(eyes, taught, measuring, features, points=3)
    assert [count for count, _ in curve] == [0, 50, 100]
    shares = [known.right / known.of for _, known in curve]
    assert shares[-1] > 0.75 > shares[0]
    assert all(known.low < share < known.high for (_, known), share in zip(curve, shares, strict=True))


def test_what_more_answers_would_teach_is_foretold(eyes: Eyes, features: dict[str, Tensor], liked: np.ndarray) -> None:
    few, many = (learn(eyes, None, rated(liked, range(count)), features) for count in (4, 100))
    assert few is not None
    assert many is not None
    pool = torch.stack([features[str(n)] for n in range(100, NUM_PICTURES)])
    before, after = look_ahead(few, pool, 20), look_ahead(many, pool, 20)
    assert 0.5 < before.right < before.after < after.right < 1
    assert after.after - after.right < before.after - before.right


def test_alone_a_person_is_a_beginning_of_their_own(features: dict[str, Tensor], liked: np.ndarray) -> None:
    alone, mind = Eyes(PixelEncoder(), None), None
    for count in (0, 2, 40):
        mind = learn(alone, None, rated(liked, range(count)), features)
        assert (mind is None) == (count < 3)
    same = learn(alone, mind, rated(liked, range(42)), features)
    assert mind is not None
    assert same is not None
    assert same.basis is mind.basis  # two answers more are added, not fitted anew
    assert measure(same, rated(liked, range(60, 100)), features)


def test_the_choice_that_teaches_most_lowers_the_variance_more_than_others(
    eyes: Eyes, features: dict[str, Tensor], liked: np.ndarray
) -> None:
    mind = learn(eyes, None, rated(liked, range(6)), features)
    assert mind is not None
    images = ImageFeatures(torch.stack([features[str(n)] for n in range(6, 36)]))

    def spread_after(a: int, b: int) -> float:
        first, second = images[torch.tensor([a])], images[torch.tensor([b])]
        left = add_choices(mind.basis, mind.posterior, PairChoices(first, second, torch.tensor([0.5])))
        design = mind.basis.network(images.features)[1].double()
        design = design - design.mean(dim=0)
        return float(((design @ left.covariance) * design).sum())

    a, b = next_choice(mind.basis, mind.posterior, images, 2)
    others = [spread_after(x, y) for x, y in ((0, 1), (2, 9), (11, 17), (20, 25), (3, 28))]
    assert spread_after(a, b) < min(others)
    four = next_choice(mind.basis, mind.posterior, images, 4)
    assert four[:2] == [a, b]
    assert len(set(four)) == 4


def test_one_kind_of_rating_alone_is_no_choice_to_count(
    eyes: Eyes, features: dict[str, Tensor], liked: np.ndarray
) -> None:
    mind: Mind | None = learn(eyes, None, rated(liked, range(3)), features)
    assert mind is not None
    same = [Answer(id=n, said="rating", picture_ids=[str(n)], value=3.0) for n in range(5)]
    assert measure(mind, same, features) is None
    chosen = Answer(id=9, said="choice", picture_ids=["1", "2"], value=0)
    assert isinstance(measure(mind, [*same, chosen], features), Known)
