"""What recipes are given by name: base models, and the rewards of a run with all that watches them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pamela_rl.diffusion.loading import DTYPES, ModelSettings, load_pipeline
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.encoders.pixels import NAME as PIXELS
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.population import load_population_reward
from pamela_rl.types import Scorer
from pamela_rl.world import ENCODER, PIPELINES, load_judge
from pamela_rl.world import load_pipeline as load_world
from pamela_rl.world.judge import Faithfulness
from pamela_rl.world.raters import TrueRating, make_raters

WORLD = "world"


def open_pipeline(settings: ModelSettings) -> Any:
    """Load a base model by name, on the CPU.

    Raises:
        ConfigError: There is no such model.
    """
    dtype = DTYPES[settings.dtype]
    if settings.name in PIPELINES:
        return load_world(PIPELINES[settings.name], dtype)
    return load_pipeline(settings.name, dtype=dtype)


def open_encoder(name: str, device: str) -> FeatureEncoder | PixelEncoder:
    """Load an encoder by name: "world", "pixels", or what open_clip knows."""
    return PixelEncoder() if name == PIXELS else FeatureEncoder.load(ENCODER if name == WORLD else name, device)


def open_scorers(
    reward: Path,
    judge: Path | None,
    encoder: str,
    device: str,
    content: str,
    watch: Sequence[str],
    in_world: bool,
    judge_encoder: str | None = None,
) -> tuple[PersonalReward, dict[str, Scorer]]:
    """Load the personal reward and whatever else scores pictures.

    Args:
        reward: Folder of a personal reward.
        judge: Folder of another, fitted on other people's ratings of other pictures; None where there is none.
        encoder: Of the reward.
        device: Where they live.
        content: What tells whether pictures show what was asked: "world", "none", or a population reward.
        watch: Further population rewards, by name.
        in_world: Whether the true ratings are known.
        judge_encoder: Of the judge; None is the reward's, and then what it cannot see fools both.

    Returns:
        The reward, and all scorers by name, the reward among them.

    Raises:
        ConfigError: A part is missing or does not fit.
    """
    features = open_encoder(encoder, device)
    personal = PersonalReward.load(reward, features)
    scorers: dict[str, Scorer] = {"reward": personal}
    if judge is not None:
        seeing = features if judge_encoder in (None, encoder) else open_encoder(judge_encoder, device)
        scorers["judge"] = Judge.apart_from(personal, PersonalReward.load(judge, seeing))
    if in_world:
        scorers["true_rating"] = TrueRating(make_raters(), load_judge())
    if content == WORLD:
        scorers["faithfulness"] = Faithfulness(load_judge())
    elif content != "none":
        scorers["faithfulness"] = load_population_reward(content, device)
    return personal, scorers | {name: load_population_reward(name, device) for name in watch}
