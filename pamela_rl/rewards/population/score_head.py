"""The head of LAION's aesthetic predictor and of ImageReward."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pamela_rl.rewards.population.weights import load_weights, strip_prefix


def load_score_head(
    state: Mapping[str, Tensor], prefix: str, width: int, origin: str | Path, device: torch.device
) -> nn.Module:
    """Build an MLP width-1024-128-64-16-1, in fp32, frozen.

    There is only dropout between the linear layers: the originals have their ReLUs commented out
    (github.com/christophschuhmann/improved-aesthetic-predictor), so trained heads are affine maps. Dropout is kept for
    the numbering of the published names.

    Args:
        state: Named tensors.
        prefix: Prefix of the layers' numbers.
        width: Width of the input features.
        origin: Source of the tensors, for errors.
        device: Device of the head.

    Raises:
        ConfigError: Names or shapes differ.
    """
    head = nn.Sequential(
        nn.Linear(width, 1024),
        nn.Dropout(0.2),
        nn.Linear(1024, 128),
        nn.Dropout(0.2),
        nn.Linear(128, 64),
        nn.Dropout(0.1),
        nn.Linear(64, 16),
        nn.Linear(16, 1),
    )
    load_weights(head, strip_prefix(state, prefix), origin)
    return head.eval().requires_grad_(False).to(device)
