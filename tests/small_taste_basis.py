"""A taste basis with made-up numbers, for the tests of rewards and of agreement."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor

from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures

WIDTH = 4  # a bias and three dimensions of taste
PEOPLE = pd.DataFrame({"age": [20.0, 30.0, 50.0]}, index=["a", "b", "c"])


def spread_matrix(size: int) -> Tensor:
    root = torch.randn(size, size, dtype=torch.float64)
    return root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def small_taste_basis() -> TasteBasis:
    """A taste basis with made-up numbers: five features, three people."""
    torch.manual_seed(5)
    network = TasteFeatures(5, WIDTH - 1, hidden_dim=8).eval().requires_grad_(False)
    for layer in (network.taste, network.shared):
        layer.weight.mul_(5)
    coding = DemographicsCoding.of(PEOPLE)
    return TasteBasis(
        network=network,
        coding=coding,
        demographic_effects=torch.randn(WIDTH, coding.dim, dtype=torch.float64),
        prior_covariance=spread_matrix(WIDTH),
        noise=Noise(
            torch.tensor([0.37, 0.5, 0.2], dtype=torch.float64),
            misfit=0.1,
            log_mean=math.log(0.3),
            log_std=0.6,
            floor=0.02,
        ),
        user_ids=("a", "b", "c"),
        means=torch.randn(3, WIDTH, dtype=torch.float64),
        covariances=torch.stack([spread_matrix(WIDTH) for _ in range(3)]),
    )
