from __future__ import annotations

import numpy as np
import pytest
import torch

from pamela_rl.rewards.encoders.features import encode_all
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.world.fitted_rewards import distinct_users, fit_judge, measure_agreement, retest_correlation
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters
from pamela_rl.world.ratings import WorldRatings


def test_people_agree_with_themselves_as_people_do(world_ratings: WorldRatings, raters: Raters) -> None:
    assert 0.6 < retest_correlation(world_ratings, raters, num_images=200) < 0.8


def test_agreement_with_oneself_is_what_rating_everything_twice_gives(
    world_ratings: WorldRatings, raters: Raters
) -> None:
    rng, values = np.random.default_rng(0), []
    for person in range(200):
        truth = world_ratings.expected_ratings[:, person].numpy()
        twice = [np.clip(np.rint(truth + 0.62 * rng.standard_normal(600)), 1, 5) for _ in range(2)]
        values.append(np.corrcoef(*twice)[0, 1])
    assert retest_correlation(world_ratings, raters, 600) == pytest.approx(np.mean(values), abs=0.02)


def test_the_first_two_chosen_are_the_most_opposite_of_those_who_care(
    world_ratings: WorldRatings, raters: Raters
) -> None:
    candidates = raters.user_ids[:156]
    chosen = distinct_users(raters, world_ratings.expected_ratings, candidates, 4)
    assert len(set(chosen)) == 4
    assert set(chosen) <= set(candidates)
    expected = world_ratings.expected_ratings[:, :156]
    likeness = torch.corrcoef(expected.T)
    caring = expected.std(dim=0) >= expected.std(dim=0).median()
    first, second = (raters.index(user) for user in chosen[:2])
    assert caring[[raters.index(user) for user in chosen]].all()
    assert likeness[first, second].item() == pytest.approx(likeness[caring][:, caring].min().item(), abs=1e-9)
    assert likeness[first, second] < -0.5


def test_only_candidates_are_chosen(world_ratings: WorldRatings, raters: Raters) -> None:
    candidates = list(raters.user_ids[20:40])
    assert set(distinct_users(raters, world_ratings.expected_ratings, candidates, 3)) <= set(candidates)
    assert len(distinct_users(raters, world_ratings.expected_ratings, candidates, 1)) == 1


def test_a_personal_reward_stands_between_everybodys_and_the_noise_ceiling_on_new_pictures(
    world_ratings: WorldRatings, world_reward: PersonalReward, raters: Raters
) -> None:
    features = encode_all(world_reward.encoder, world_ratings.images, world_ratings.prompts)
    results = measure_agreement(world_reward, features, world_ratings, raters)
    assert set(results) == {"val_seen", "test_seen", "val_unseen", "test_unseen"}
    personal, population, strangers, ceiling = results["test_seen"]
    assert strangers.srocc[0] < population.srocc[0] < personal.srocc[0] - 0.2 < ceiling.srocc[0]
    assert personal.srocc[2] < ceiling.srocc[1]
    personal, population, _, ceiling = results["test_unseen"]  # ten ratings shown
    assert population.srocc[0] < personal.srocc[0] < ceiling.srocc[0]


def test_the_judge_learns_apart_from_the_reward_and_agrees_with_what_people_truly_like(
    world_ratings: WorldRatings, world_reward: PersonalReward, raters: Raters, content_judge: ContentJudge
) -> None:
    judged = ["rater-003", "rater-170"]
    other = fit_judge(raters, judged, content_judge, world_reward.encoder, num_images=150)
    assert set(judged) <= set(other.model.user_ids)
    assert not set(judged) & other.fitted_on.users
    judge = Judge.of(world_reward, other)  # refuses what they share
    for user in judged:
        score = judge(world_ratings.images[-200:], world_ratings.prompts[-200:], [user] * 200).mean
        truth = world_ratings.expected_ratings[-200:, raters.index(user)]
        assert np.corrcoef(score, truth)[0, 1] > 0.4
