from __future__ import annotations

import numpy as np
import pytest
import torch

from pamela_rl.evaluation.distances import distance, diversity


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
