"""Settings of each algorithm that suit the world's small models; the algorithms' own defaults are the papers', for large ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Chosen on people who are in no figure of docs/algorithms.md: the fifth and sixth whom a quickstart of eight takes; the twin's on the fifth.
_UNET: Mapping[str, Mapping[str, Any]] = {
    "ddpo": {"learning_rate": 1.2e-2, "clip_range": 1e-3, "kl_weight": 0.1},
    "ddpo_sf": {"learning_rate": 1.6e-2, "kl_weight": 0.1},
    "grpo": {"learning_rate": 1.2e-2, "clip_range": 1e-3, "kl_weight": 0.1},
    "nft": {"learning_rate": 4e-3, "kl_weight": 0.3, "advantage_scale": 2.0, "num_updates": 2},
    "draft": {"learning_rate": 4e-3, "weight_decay": 1e-4, "kl_weight": 0.1, "num_updates": 2},
}
_FLOW: Mapping[str, Mapping[str, Any]] = {
    "ddpo": {"learning_rate": 4e-3, "clip_range": 1e-3, "kl_weight": 0.01},
    "ddpo_sf": {"learning_rate": 4e-3, "kl_weight": 0.03},
    "grpo": {"learning_rate": 4e-3, "clip_range": 1e-3, "kl_weight": 0.01},
    "nft": {"learning_rate": 2e-3, "kl_weight": 0.3, "advantage_scale": 2.0, "num_updates": 2},
    "draft": {"learning_rate": 4e-3, "weight_decay": 1e-4, "kl_weight": 0.1, "num_updates": 2, "num_steps": 3},
}
TUNED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {"world": _UNET, "flow": _FLOW}
"""By the name of the model in :data:`pamela_rl.world.PIPELINES`, then by the name of the algorithm."""
