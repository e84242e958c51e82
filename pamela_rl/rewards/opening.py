"""Rewards and judges by folder and by name: what trains, and what only watches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.population import load_population_reward
from pamela_rl.rewards.settings import WORLD
from pamela_rl.types import Scorer


def open_reward(folder: str | Path, encoder: str, device: str = "cpu") -> PersonalReward:
    """Load a personal reward together with its encoder.

    Args:
        folder: Where it was saved.
        encoder: By name: "world", "pixels", an open_clip model name or a folder.
        device: Where the encoder lives.

    Raises:
        ConfigError: There is no reward there, the encoder cannot be loaded, or the reward was fitted on another's features.
    """
    return PersonalReward.load(folder, open_encoder(encoder, device))


def open_scorers(
    reward: str | Path,
    judge: str | Path | None = None,
    encoder: str = WORLD,
    judge_encoder: str | None = None,
    content: str = "none",
    watch: Sequence[str] = (),
    device: str = "cpu",
) -> tuple[PersonalReward, dict[str, Scorer]]:
    """Load a personal reward, its judge, and population rewards that are only watched.

    Args:
        reward: Folder of the reward.
        judge: Folder of another one, fitted on other users' ratings of other images; None where there is none.
        encoder: Of the reward, by name.
        judge_encoder: Of the judge; None is the reward's, and then what it cannot see fools both.
        content: Population reward that tells whether images show what their prompts ask for, e.g. "clip_score". "none" is
            none; nor is there one for "world", whose content judge is no population reward.
        watch: Further population rewards, by name.
        device: Where encoders and population rewards live.

    Returns:
        The reward, and all scorers by name: ``reward``, ``judge``, ``faithfulness``, and those watched.

    Raises:
        ConfigError: A part is missing or does not fit.
    """
    features = open_encoder(encoder, device)
    personal = PersonalReward.load(reward, features)
    scorers: dict[str, Scorer] = {"reward": personal}
    if judge is not None:
        judging = features if judge_encoder in (None, encoder) else open_encoder(judge_encoder, device)
        scorers["judge"] = Judge.independent_of(personal, PersonalReward.load(judge, judging))
    if content not in (WORLD, "none"):
        scorers["faithfulness"] = load_population_reward(content, device=device)
    return personal, scorers | {name: load_population_reward(name, device=device) for name in watch}
