"""Published rewards that are the same for all users, by name: aesthetic, CLIP score, HPSv2, ImageReward, PickScore.

Imports rewards.encoders and the nouns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.population.aesthetic import load_aesthetic
from pamela_rl.rewards.population.clip_score import load_clip_score
from pamela_rl.rewards.population.hpsv2 import load_hpsv2
from pamela_rl.rewards.population.imagereward import load_imagereward
from pamela_rl.rewards.population.pickscore import load_pickscore
from pamela_rl.rewards.population.scoring import PopulationReward, Score

Precision = Literal["fp32", "bf16", "fp16"]
Loader = Callable[[str | Path | None, torch.device, torch.dtype], Score]

POPULATION_REWARDS: Mapping[str, Loader] = MappingProxyType(
    {
        "aesthetic": load_aesthetic,
        "clip_score": load_clip_score,
        "hpsv2.0": partial(load_hpsv2, "HPS_v2_compressed.pt"),
        "hpsv2.1": partial(load_hpsv2, "HPS_v2.1_compressed.pt"),
        "imagereward": load_imagereward,
        "pickscore": load_pickscore,
    }
)
DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


def load_population_reward(
    name: str,
    source: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
) -> PopulationReward:
    """Load a published reward. The first time, hundreds of megabytes to gigabytes are downloaded from the hub.

    Args:
        name: One of ``POPULATION_REWARDS``.
        source: A folder, a weights file or a repository of the hub; None for the authors' repository. The loader
            of each reward says which files a source must have.
        device: Device of the model.
        precision: Of the image and text towers; scores are fp32.

    Raises:
        ConfigError: There is no such reward or precision, or its weights cannot be loaded or do not fit.
    """
    if name not in POPULATION_REWARDS:
        raise ConfigError(f"the reward is {name!r}; use one of {', '.join(POPULATION_REWARDS)}.")
    if precision not in DTYPES:
        raise ConfigError(f"precision is {precision!r}; use one of {', '.join(DTYPES)}.")
    place = torch.device(device)
    return PopulationReward(name, POPULATION_REWARDS[name](source, place, DTYPES[precision]), place)
