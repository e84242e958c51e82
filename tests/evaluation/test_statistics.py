from __future__ import annotations

import numpy as np
import pytest
import torch

from pamela_rl.evaluation.distances import distance, diversity
from pamela_rl.evaluation.statistics import hierarchical_bootstrap_mean, wins


def test_wins_count_a_tie_as_one_half() -> None:
    assert wins(np.array([3.0, 1, 2]), np.array([1.0, 3, 2])).tolist() == [1.0, 0.0, 0.5]


def test_wins_of_two_sides_add_up_to_one() -> None:
    numbers = np.random.default_rng(0)
    first, second = numbers.integers(0, 4, 50).astype(float), numbers.integers(0, 4, 50).astype(float)
    np.testing.assert_allclose(wins(first, second) + wins(second, first), 1.0)


def test_diversity_is_the_mean_distance_of_pairs_within_a_prompt_worked_out_by_hand() -> None:
    greys = torch.tensor([0.0, 0.3, 0.6, 0.5, 0.7, 1.0])[:, None, None, None].expand(-1, 3, 2, 2)
    groups = np.array([0, 0, 0, 4, 4, 9])  # pairs 0.3, 0.3, 0.6 and 0.2; a picture alone has no pair
    assert diversity(greys, groups) == pytest.approx((0.4 + 0.2) / 2, abs=1e-6)


def test_diversity_is_the_root_of_the_mean_square_over_pixels() -> None:
    images = torch.zeros(2, 3, 2, 2)
    images[1, :, 0] = 0.8  # half the pixels
    assert diversity(images, np.zeros(2, dtype=np.int64)) == pytest.approx(0.8 / 2**0.5, abs=1e-6)


def test_one_picture_a_prompt_has_no_diversity() -> None:
    assert np.isnan(diversity(torch.rand(3, 3, 2, 2), np.arange(3)))


def test_distance_is_worked_out_by_hand_picture_by_picture() -> None:
    images = torch.zeros(2, 3, 2, 2)
    images[0] = 0.5
    images[1, :, 0] = 0.8
    assert distance(images, torch.zeros(2, 3, 2, 2)) == pytest.approx((0.5 + 0.8 / 2**0.5) / 2, abs=1e-6)
    assert distance(images, images) == 0


def test_the_estimate_weighs_people_alike_however_many_pictures_they_have() -> None:
    users, prompts = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
    assert hierarchical_bootstrap_mean(np.array([1.0, 1, 4, 10]), users, prompts).estimate == pytest.approx(
        (2 + 10) / 2
    )


def test_the_interval_is_as_wide_as_the_two_stages_of_drawing_make_it() -> None:
    numbers = np.random.default_rng(0)
    people, each, seeds = 40, 10, 2
    values = (numbers.normal(0, 1, (people, 1, 1)) + numbers.normal(0, 2, (people, each, 1))).repeat(seeds, axis=2)
    users = np.arange(people).repeat(each * seeds)
    prompts = np.tile(np.arange(each).repeat(seeds), people)
    interval = hierarchical_bootstrap_mean(values.ravel(), users, prompts)
    cells = values.mean(axis=2)
    variance = (cells.mean(axis=1).var() + (cells.var(axis=1) / each).mean()) / people
    assert interval.estimate == pytest.approx(cells.mean(), abs=1e-12)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)


def test_seeds_of_a_prompt_stay_together_so_copies_of_a_picture_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    once = hierarchical_bootstrap_mean(values, np.zeros(30, dtype=np.int64), np.arange(30))
    thrice = hierarchical_bootstrap_mean(values.repeat(3), np.zeros(90, dtype=np.int64), np.arange(30).repeat(3))
    assert thrice.to_json() == pytest.approx(once.to_json(), abs=1e-9)


@pytest.mark.parametrize(("people", "each", "trials"), [(1, 40, 150), (12, 4, 60)])
def test_the_interval_covers_the_truth_about_95_times_in_a_hundred(people: int, each: int, trials: int) -> None:
    users, prompts = np.arange(people).repeat(each * 2), np.tile(np.arange(each).repeat(2), people)
    covered = 0
    for trial in range(trials):
        numbers = np.random.default_rng(trial)
        person = numbers.normal(0, 0.5 if people > 1 else 0.0, people)[users]
        prompt = numbers.normal(0, 0.5, people * each).repeat(2)
        values = 1.0 + person + prompt + numbers.normal(0, 0.3, len(users))
        interval = hierarchical_bootstrap_mean(values, users, prompts, seed=trial)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.90 <= covered / trials <= 0.99


def test_a_constant_has_an_interval_of_no_width_and_the_seed_repeats_it() -> None:
    users, prompts = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert set(hierarchical_bootstrap_mean(np.full(4, 2.5), users, prompts).to_json().values()) == {2.5}
    values = np.array([1.0, 2, 3, 7])
    assert hierarchical_bootstrap_mean(values, users, prompts, seed=3) == hierarchical_bootstrap_mean(
        values, users, prompts, seed=3
    )
