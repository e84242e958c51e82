from __future__ import annotations

from typing import Any

import pytest

from pamela_rl.algorithms.registry import build_settings
from pamela_rl.config import (
    AdvantageSettings,
    EMASettings,
    LoraSettings,
    RewardSettings,
    SamplingConfig,
    TrainConfig,
    ValidationSettings,
)
from pamela_rl.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (TrainConfig, {"images_per_iteration": 10, "group_size": 4}, "multiple of 4, e.g. 8 or 12"),
        (TrainConfig, {"group_size": 1}, "group_size is 1.*at least 2"),
        (TrainConfig, {"images_per_iteration": 2, "group_size": 4}, "at least 4"),
        (TrainConfig, {"num_iterations": 0}, "num_iterations is 0"),
        (SamplingConfig, {"eta": -0.5}, "eta is -0.5; use 0 to 1"),
        (SamplingConfig, {"flow_noise": "ode"}, "flow_noise is 'ode'; use one of flow_sde, cps, dance"),
        (SamplingConfig, {"window_start": 10}, "window_start is 10; with 10 denoising steps use 0 to 9"),
        (SamplingConfig, {"window_start": 8, "window_size": 4}, "window_size is 4 but 2 steps are left .*use 1 to 2"),
        (SamplingConfig, {"window_size": 3}, "train_steps is 4 but 3 denoising steps have noise; use 1 to 3"),
        (SamplingConfig, {"num_inference_steps": 4, "train_steps": 5}, "use 1 to 4"),
        (SamplingConfig, {"guidance_scale": 0.5}, "1 means no guidance"),
        (AdvantageSettings, {"scale": "prompt"}, "advantages.scale is 'prompt'; use one of group, batch"),
        (AdvantageSettings, {"clip": 0.0}, "advantages.clip is 0.0"),
        (EMASettings, {"decay": 1.0}, "ema.decay is 1.0; use 0, .* to below 1"),
        (EMASettings, {"every": 0}, "ema.every is 0"),
        (
            TrainConfig,
            {"num_iterations": 3, "ema": EMASettings(0.9, 4)},
            "ema.every is 4 but num_iterations is 3, .*use 1 to 3",
        ),
        (
            TrainConfig,
            {"ema": EMASettings(0.9, 8), "validation": ValidationSettings(every=5, patience=2)},
            "ema.every is 8 but validation.every is 5",
        ),
        (LoraSettings, {"rank": 0}, "rank is 0"),
        (RewardSettings, {"max_bad_share": 2.0}, "0 to 1"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(kind: type, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        kind(**settings)


def test_defaults_hold_together() -> None:
    assert TrainConfig().prompts_per_iteration * TrainConfig().group_size == TrainConfig().images_per_iteration


def test_settings_are_built_of_plain_values_as_yaml_gives_them() -> None:
    assert build_settings(LoraSettings, {"rank": "4"}, "lora") == LoraSettings(rank=4)
    assert build_settings(TrainConfig, {"lora": {"rank": 2}}, "train").lora == LoraSettings(rank=2)
    with pytest.raises(ConfigError, match=r"lora cannot be set so: .*ranc.*\. Its settings are rank, alpha, "):
        build_settings(LoraSettings, {"ranc": 4}, "lora")
    with pytest.raises(ConfigError, match="rank is 0"):
        build_settings(LoraSettings, {"rank": 0}, "lora")
