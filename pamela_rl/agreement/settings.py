"""Settings of how rewards are fitted and measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pamela_rl.config.checks import refuse_unused
from pamela_rl.data.settings import SourceSettings
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.saved import SavedReward
from pamela_rl.rewards.settings import (
    ALL_MODELS,
    DEFAULT_ENCODER,
    DEFAULT_MODELS,
    JUDGE_ENCODER,
    MODEL_NAMES,
    PROMPT_MODELS,
    SIGLIP,
)


@dataclass(frozen=True)
class FitSettings:
    """What rewards are fitted to, and how they are measured.

    Attributes:
        source: Where the ratings are.
        add: What an earlier run wrote; the people of the source are added to it, and nobody is fitted again.
        encoder: What sees images: "efficientnet_lite0", an open_clip name, "timm:NAME", a folder, "pixels" or
            "world"; the world's images are always encoded by its own.
        judge_encoder: Of the judge, which training only watches, on the same ratings; "none" fits no judge.
        models: Which to fit, or "all".
        unseen_users: Share of people held out as newcomers; None holds out none of up to ten, else a fifth.
        near_duplicates: Whether images that are nearly the same are held out "together" or "apart".
        num_support_ratings: Of newcomers, before they are measured.
        curve: Numbers of ratings shown for the learning curve.
        cache: Where features are kept between runs.
        seed: Of splits and fits.
    """

    source: SourceSettings = field(default_factory=SourceSettings)
    add: Path | None = None
    encoder: str = DEFAULT_ENCODER
    judge_encoder: str = JUDGE_ENCODER
    models: list[str] | Literal["all"] = field(default_factory=lambda: list(DEFAULT_MODELS))
    unseen_users: float | None = None
    near_duplicates: Literal["together", "apart"] = "together"
    num_support_ratings: int = 10
    curve: list[int] = field(default_factory=lambda: [0, 2, 5, 10, 20])
    cache: Path = Path("outputs/features")
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in MODEL_NAMES]
        if unknown or not self.names:
            raise ConfigError(f"models is {self.models}; use {ALL_MODELS}, or any of {', '.join(MODEL_NAMES)}.")
        if self.num_support_ratings < 0 or min(self.curve, default=0) < 0:
            raise ConfigError("num_support_ratings and curve count ratings; use 0 or more.")
        if self.judge_encoder == self.encoder:
            raise ConfigError(
                f"encoder and judge_encoder are both {self.encoder!r}, so the judge would be blind to what the reward is "
                "blind to; give another, or none."
            )
        if self.unseen_users is not None and not 0 <= self.unseen_users < 1:
            raise ConfigError(f"unseen_users is {self.unseen_users}; use a share from 0 to less than 1, e.g. 0.2.")
        measured = ("encoder", "judge_encoder", "unseen_users", "near_duplicates")
        if self.add is not None:
            fitted = (*measured, "models", "num_support_ratings", "curve", "seed")
            refuse_unused(self, fitted, "add takes new people into what was fitted before")
        elif self.source.layout == "world":
            refuse_unused(self, (*measured, "cache"), "the embedded world has encoders and splits of its own")
        self.source.check_paths()
        if self.add is not None:
            SavedReward.read(self.add)
            if self.source.layout == "world":
                raise ConfigError("add is given but no source.path; give the new people's ratings.")

    @property
    def names(self) -> list[str]:
        """Names of models; "all" leaves out those that need prompts, unless the encoder is known to read them."""
        if self.models != ALL_MODELS:
            return list(self.models)
        reads_prompts = self.source.layout == "world" or self.encoder == SIGLIP
        return [name for name in MODEL_NAMES if reads_prompts or name not in PROMPT_MODELS]

    def measuring(self) -> dict[str, Any]:
        """Return the arguments of ``prepare_study`` that say how models are measured."""
        return {
            "judge_encoder": None if self.judge_encoder == "none" else self.judge_encoder,
            "unseen_users": self.unseen_users,
            "group_near_duplicates": self.near_duplicates == "together",
        }
