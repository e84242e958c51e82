"""Algorithm settings for the world's small models; the algorithms' defaults are the papers', for large models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pamela_rl.config import AlgorithmChoice

if TYPE_CHECKING:
    from pamela_rl.algorithms.algorithm import Algorithm

# Tuned on users in no figure of docs/algorithms.md: the fifth and sixth of a quickstart of eight; flow on the fifth.
_UNET: Mapping[str, Mapping[str, Any]] = {
    "ddpo": {"learning_rate": 1.2e-2, "clip_range": 1e-3, "kl_weight": 0.1},
    "ddpo_sf": {"learning_rate": 1.6e-2, "kl_weight": 0.1},
    "grpo": {"learning_rate": 1.2e-2, "clip_range": 1e-3, "kl_weight": 0.1},
    "nft": {"learning_rate": 4e-3, "kl_weight": 0.3, "advantage_scale": 2.0, "num_updates": 2},
    "draft": {"learning_rate": 4e-3, "weight_decay": 1e-4, "kl_weight": 0.1, "num_updates": 2},
    "sft": {"learning_rate": 2e-3},  # these two on other users, those of "tuning" in benchmarks/sixty.py
    "dpo": {"learning_rate": 1e-3, "beta": 500.0},
}
_FLOW: Mapping[str, Mapping[str, Any]] = {
    "ddpo": {"learning_rate": 4e-3, "clip_range": 1e-3, "kl_weight": 0.01},
    "ddpo_sf": {"learning_rate": 4e-3, "kl_weight": 0.03},
    "grpo": {"learning_rate": 4e-3, "clip_range": 1e-3, "kl_weight": 0.01},
    "nft": {"learning_rate": 2e-3, "kl_weight": 0.3, "advantage_scale": 2.0, "num_updates": 2},
    "draft": {"learning_rate": 4e-3, "weight_decay": 1e-4, "kl_weight": 0.1, "num_updates": 2, "num_steps": 3},
    "sft": {"learning_rate": 1e-3},  # not tried: half the UNet's rates, as for nft
    "dpo": {"learning_rate": 5e-4, "beta": 500.0},
}
ALGORITHM_SETTINGS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {"world": _UNET, "flow": _FLOW}
"""By the name of the model in :data:`pamela_rl.storage.SHIPPED_PIPELINES`, then by the name of the algorithm."""


def open_tuned_algorithm(choice: AlgorithmChoice, model: str) -> Algorithm:
    """Make an algorithm; on the world's models, with settings tuned for them where none are given.

    Args:
        choice: A name, or a mapping with a name and settings.
        model: Name of the base model; any but the world's takes the algorithm's own defaults.

    Raises:
        ConfigError: There is no such algorithm, or it has no such setting, or the setting has another type.
    """
    from pamela_rl.algorithms.registry import open_algorithm

    return open_algorithm(choice, ALGORITHM_SETTINGS.get(model))
