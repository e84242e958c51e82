"""Tune text-to-image models to one person: ratings become a reward, the reward becomes a LoRA adapter.

The names below are everything a Python user needs; each loads its libraries when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pamela_rl.agreement.fit_rewards import fit_reward
    from pamela_rl.algorithms.registry import algorithm_names, open_algorithm
    from pamela_rl.config import TrainConfig
    from pamela_rl.diffusion.adapters import load_adapter
    from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
    from pamela_rl.diffusion.saved_adapters import list_adapters, restore_version
    from pamela_rl.diffusion.settings import ModelSettings
    from pamela_rl.evaluation.compare_adapters import compare_adapters
    from pamela_rl.rewards.opening import open_reward
    from pamela_rl.rewards.personal import PersonalReward
    from pamela_rl.sharing.hub import push_to_hub
    from pamela_rl.steering.prompt_search import search_prompt
    from pamela_rl.training.export import export_checkpoint
    from pamela_rl.training.personalize import personalize

__all__ = [
    "ModelSettings",
    "PersonalReward",
    "TrainConfig",
    "algorithm_names",
    "compare_adapters",
    "export_checkpoint",
    "fit_reward",
    "list_adapters",
    "load_adapter",
    "load_pipeline",
    "open_algorithm",
    "open_reward",
    "personalize",
    "prepare_policy",
    "push_to_hub",
    "restore_version",
    "search_prompt",
]

_MODULES = {
    "ModelSettings": "diffusion.settings",
    "PersonalReward": "rewards.personal",
    "TrainConfig": "config",
    "algorithm_names": "algorithms.registry",
    "compare_adapters": "evaluation.compare_adapters",
    "export_checkpoint": "training.export",
    "fit_reward": "agreement.fit_rewards",
    "list_adapters": "diffusion.saved_adapters",
    "load_adapter": "diffusion.adapters",
    "load_pipeline": "diffusion.loading",
    "open_algorithm": "algorithms.registry",
    "open_reward": "rewards.opening",
    "personalize": "training.personalize",
    "prepare_policy": "diffusion.loading",
    "push_to_hub": "sharing.hub",
    "restore_version": "diffusion.saved_adapters",
    "search_prompt": "steering.prompt_search",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
