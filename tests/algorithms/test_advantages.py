from __future__ import annotations

import torch

from pamela_rl.algorithms.advantages import group_advantages


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
