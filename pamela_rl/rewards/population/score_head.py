"""The head that LAION's aesthetic predictor and ImageReward have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pamela_rl.rewards.population.weights import fill, part_of


def load_score_head(
    state: Mapping[str, Tensor], prefix: str, width: int, origin: str | Path, device: torch.device
) -> nn.Module:
    """Build width-1024-128-64-16-1, in fp32, frozen.

    Linear layers with dropout and nothing between them: the originals left their ReLUs commented out
    (github.com/christophschuhmann/improved-aesthetic-predictor), so trained heads are affine maps. Dropout stays for
    the numbering of the published names.

    Args:
        state: Named tensors.
        prefix: What stands before the layers' numbers.
        width: Of the features that come in.
        origin: Where the tensors are from, for errors.
        device: Where the head lives.

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
    fill(head, part_of(state, prefix), origin)
    return head.eval().requires_grad_(False).to(device)
