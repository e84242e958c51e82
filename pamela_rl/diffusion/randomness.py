"""Generators that depend on what they are for, never on what was drawn before."""

from __future__ import annotations

import numpy as np
import torch


def generator_for(*key: int) -> torch.Generator:
    """Make the generator of a key, e.g. (seed, iteration, image id); different keys give unrelated numbers."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
