"""Frozen settings that check themselves; recipes fill them from YAML and the command line."""

from pamela_rl.config.keeping import KeepSettings
from pamela_rl.config.learning import (
    AdvantageScale,
    AdvantageSettings,
    AlgorithmChoice,
    EMASettings,
    MismatchSettings,
    RewardSettings,
)
from pamela_rl.config.lora import LoraSettings
from pamela_rl.config.sampling import FLOW_NOISES, FlowNoise, SamplingConfig
from pamela_rl.config.train import TrainConfig
from pamela_rl.config.validation import IMAGES_PER_PROMPT, Tracker, ValidationSettings

__all__ = [
    "FLOW_NOISES",
    "IMAGES_PER_PROMPT",
    "AdvantageScale",
    "AdvantageSettings",
    "AlgorithmChoice",
    "EMASettings",
    "FlowNoise",
    "KeepSettings",
    "LoraSettings",
    "MismatchSettings",
    "RewardSettings",
    "SamplingConfig",
    "Tracker",
    "TrainConfig",
    "ValidationSettings",
]
