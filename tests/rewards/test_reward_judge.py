from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pamela_rl.data.ratings import RatingTable
from pamela_rl.errors import ConfigError, DataError, UnknownUserError
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.judge import Judge, split_for_judge
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.types import RewardOutput, Verdict
from pamela_rl.world.ratings import WorldRatings

MINE = FittedOn(frozenset({"ada", "ben"}), frozenset({"x", "y"}), seed=0)
THEIRS = FittedOn(frozenset({"cy"}), frozenset({"z"}), seed=1)


def rewards(encoder: FeatureEncoder, basis: TasteBasis, *facts: FittedOn) -> list[PersonalReward]:
    return [PersonalReward(encoder, basis, each) for each in facts]


def test_who_shares_nothing_but_the_people_that_are_judged_may_judge(
    encoder: FeatureEncoder, small_basis: TasteBasis
) -> None:
    judge = Judge.of(*rewards(encoder, small_basis, MINE, THEIRS))
    assert judge.user_ids == small_basis.user_ids
    assert judge.basis == "other people's ratings of other images"


def test_another_encoder_may_judge_by_the_same_ratings_and_says_so(
    encoder: FeatureEncoder, small_basis: TasteBasis
) -> None:
    reward, same_eyes = rewards(encoder, small_basis, MINE, replace(MINE, seed=1))
    other_eyes = PersonalReward(PixelEncoder(), small_basis, MINE)
    assert Judge.of(reward, other_eyes).basis == "the same ratings through another encoder (pixels)"
    apart = PersonalReward(PixelEncoder(), small_basis, replace(MINE, images=frozenset({"z"})))
    assert Judge.of(reward, apart).basis == "ratings of other images through another encoder (pixels)"
    with pytest.raises(ConfigError, match="through the same encoder"):
        Judge.of(reward, same_eyes)


@pytest.mark.parametrize(
    ("theirs", "sentence"),
    [
        (
            replace(THEIRS, users=frozenset({"cy", "ben"})),
            r"learned from 1 people that .*, e\.g\. 'ben', through the same encoder; split the rat",
        ),
        (
            replace(THEIRS, images=frozenset({"z", "y", "x"})),
            r"learned from 2 images that .*, e\.g\. 'x', through the same encoder; split",
        ),
        (replace(THEIRS, seed=0), r"reward and judge were both fitted with seed 0; give the judge another"),
        (FittedOn(seed=1), r"the judge does not say which people and images it was fitted on"),
        (replace(THEIRS, users=frozenset()), r"the judge does not say which people and images"),
        (replace(THEIRS, images=frozenset()), r"the judge does not say which people and images"),
    ],
)
def test_a_judge_that_shares_anything_with_the_reward_is_refused(
    encoder: FeatureEncoder, small_basis: TasteBasis, theirs: FittedOn, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Judge.of(*rewards(encoder, small_basis, MINE, theirs))


def test_a_reward_that_does_not_say_what_it_was_fitted_on_gets_no_judge(
    encoder: FeatureEncoder, small_basis: TasteBasis
) -> None:
    with pytest.raises(ConfigError, match=r"the reward does not say which people and images it was fitted on"):
        Judge.of(*rewards(encoder, small_basis, FittedOn(), THEIRS))


def test_a_judge_answers_with_a_verdict_that_is_no_reward_and_has_no_gradient(
    world_reward: PersonalReward, world_ratings: WorldRatings
) -> None:
    images, prompts = world_ratings.images[:3].clone().requires_grad_(), list(world_ratings.prompts[:3])
    users = ["rater-000", "rater-007", "rater-000"]
    verdict, expected = Judge(world_reward, "")(images, prompts, users), world_reward(images, prompts, users)
    assert isinstance(verdict, Verdict)
    assert not isinstance(verdict, RewardOutput)
    assert torch.equal(verdict.mean, expected.mean)
    assert verdict.std is not None
    assert expected.std is not None
    assert torch.equal(verdict.std, expected.std)
    assert expected.mean.requires_grad
    assert not verdict.mean.requires_grad
    assert not verdict.std.requires_grad
    with pytest.raises(UnknownUserError, match="'eve'"):
        Judge(world_reward, "")(images, prompts, ["eve"] * 3)


def table(num_users: int, num_images: int, share: float = 1.0, seed: int = 0) -> RatingTable:
    numbers = np.random.default_rng(seed)
    pairs = np.argwhere(numbers.random((num_users, num_images)) < share)
    rows = pd.DataFrame({"user_id": pairs[:, 0].astype(str), "image": [f"p{row}" for row in pairs[:, 1]]})
    return RatingTable(rows.assign(rating=numbers.integers(1, 6, len(rows))))


def names(part: RatingTable, column: str) -> set[str]:
    return set(part.rows[column])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_reward_and_judge_get_no_picture_and_no_person_in_common(share: float, seed: int) -> None:
    whole = table(20, 30, share=0.7, seed=seed)
    split = split_for_judge(whole, share, seed)
    assert not names(split.reward, "image") & names(split.judge, "image")
    assert not names(split.reward, "user_id") & names(split.judge, "user_id")
    # whoever is judged shows the judge's pictures alone: none that the reward learned from
    assert names(split.support, "user_id") <= names(split.reward, "user_id")
    assert names(split.support, "image") <= set(whole.rows["image"]) - names(split.reward, "image")
    assert len(names(split.judge, "user_id")) == round(share * 20)
    assert len(names(split.judge, "image") | names(split.support, "image")) == round(share * 30)
    parts = pd.concat([split.reward.rows, split.judge.rows, split.support.rows])
    assert not parts.index.has_duplicates
    pd.testing.assert_frame_equal(parts.sort_index(), whole.rows.loc[parts.sort_index().index])
    lost = whole.rows.drop(parts.index)  # the price: the judge's people on the reward's pictures
    assert set(lost["user_id"]) <= names(split.judge, "user_id")
    assert set(lost["image"]) <= names(split.reward, "image")


def test_the_split_follows_its_seed_and_keeps_scale_and_raters() -> None:
    whole = replace(table(20, 30), raters=pd.DataFrame({"age": [30.0]}, index=["3"]))
    one, again, other = (split_for_judge(whole, seed=seed) for seed in (1, 1, 2))
    assert one.judge.rows.equals(again.judge.rows)
    assert names(one.judge, "user_id") != names(other.judge, "user_id")
    assert names(one.judge, "image") != names(other.judge, "image")
    for part in (one.reward, one.judge, one.support):
        assert part.scale == whole.scale
        assert part.raters is not None


@pytest.mark.parametrize(
    ("num_users", "num_images", "share"), [(20, 30, 0.0), (20, 30, 1.0), (1, 30, 0.3), (20, 1, 0.3)]
)
def test_a_split_that_leaves_nothing_for_one_of_them_is_refused(num_users: int, num_images: int, share: float) -> None:
    sentence = rf"share of {share:g} of {num_users} people and {num_images} pictures set apart, .* no rating left; use"
    with pytest.raises(DataError, match=sentence):
        split_for_judge(table(num_users, num_images), share)
