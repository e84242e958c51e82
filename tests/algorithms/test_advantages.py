from __future__ import annotations

import torch

from pamela_rl.algorithms.advantages import group_advantages, separate_advantages


def test_advantages_are_the_group_z_scores_worked_out_by_hand() -> None:
    rewards = torch.tensor([1.0, 3.0, 10.0, 20.0])
    advantages = group_advantages(rewards, torch.tensor([7, 7, 2, 2]))
    torch.testing.assert_close(advantages, torch.tensor([-1.0, 1.0, -1.0, 1.0]), atol=1e-5, rtol=0)


def test_every_group_averages_to_zero_whatever_the_order() -> None:
    groups = torch.randint(5, (64,))
    advantages = group_advantages(torch.randn(64) * 3 + 40, groups)
    for group in groups.unique():
        assert abs(advantages[groups == group].mean().item()) < 1e-5


def test_integer_rewards_are_not_truncated() -> None:
    advantages = group_advantages(torch.tensor([1, 2, 2]), torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(advantages, torch.tensor([-1.41421, 0.70711, 0.70711]), atol=1e-4, rtol=0)


def test_ties_and_single_images_teach_nothing() -> None:
    advantages = group_advantages(torch.tensor([0.1, 0.1, 0.1, 5.0]), torch.tensor([0, 0, 0, 1]))
    assert advantages.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_a_reward_that_is_no_number_takes_no_part() -> None:
    groups = torch.zeros(4, dtype=torch.int64)
    with_nan = group_advantages(torch.tensor([1.0, float("nan"), 3.0, float("inf")]), groups)
    torch.testing.assert_close(with_nan, torch.tensor([-1.0, 0.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_scaled_by_the_batch_a_group_that_hardly_differs_says_little() -> None:
    # all rewards 0, 2, 10, 20: mean 8, squares 64 + 36 + 4 + 144 = 248, spread sqrt(62)
    advantages = group_advantages(torch.tensor([0.0, 2.0, 10.0, 20.0]), torch.tensor([0, 0, 1, 1]), scale="batch")
    torch.testing.assert_close(advantages, torch.tensor([-1.0, 1.0, -5.0, 5.0]) / 62**0.5, atol=1e-5, rtol=0)
    tied = group_advantages(
        torch.tensor([1.0, 1.0, 5.0, 9.0, float("nan")]), torch.tensor([0, 0, 1, 1, 1]), scale="batch"
    )
    assert tied[:2].tolist() == [0.0, 0.0]
    assert tied[4] == 0
    # of 1, 1, 5, 9: mean 4, squares 9 + 9 + 1 + 25 = 44, spread sqrt(11)
    torch.testing.assert_close(tied[2:4], torch.tensor([-2.0, 2.0]) / 11**0.5, atol=1e-5, rtol=0)


def test_parts_count_by_how_they_rank_pictures_and_not_by_how_far_they_spread() -> None:
    groups = torch.zeros(4, dtype=torch.int64)
    parts = {"loud": torch.tensor([0.0, 1000.0, 0.0, 1000.0]), "quiet": torch.tensor([0.1, 0.1, 0.3, 0.3])}
    advantages = separate_advantages(parts, {"loud": 1.0, "quiet": -0.5}, groups)
    torch.testing.assert_close(advantages, torch.tensor([-0.5, 1.5, -1.5, 0.5]), atol=1e-4, rtol=0)
    summed = group_advantages(parts["loud"] - 0.5 * parts["quiet"], groups)
    torch.testing.assert_close(summed, torch.tensor([-1.0, 1.0, -1.0, 1.0]), atol=1e-3, rtol=0)


def test_a_part_that_all_pictures_fulfil_says_nothing() -> None:
    groups = torch.zeros(2, dtype=torch.int64)
    parts = {"tied": torch.tensor([3.0, 3.0]), "other": torch.tensor([0.0, 1.0])}
    advantages = separate_advantages(parts, {"tied": 5.0, "other": 2.0}, groups)
    torch.testing.assert_close(advantages, torch.tensor([-2.0, 2.0]), atol=1e-4, rtol=0)
