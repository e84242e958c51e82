"""Rewards and judges by folder and by name: what trains, and what only watches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.population import load_population_reward
from pamela_rl.rewards.saved import SavedReward, judge_folder
from pamela_rl.rewards.settings import WORLD
from pamela_rl.types import Scorer


def open_reward(folder: str | Path, encoder: str | None = None, device: str = "cpu") -> PersonalReward:
    """Load a personal reward together with its encoder.

    Args:
        folder: Where it was saved, or what recipes/fit_reward.py wrote.
        encoder: As ``open_encoder`` takes it; None is the one that the reward was fitted with.
        device: Where the encoder lives.

    Raises:
        ConfigError: There is no reward there, the encoder cannot be loaded, or the reward was fitted on another's features.
    """
    saved = SavedReward.read(folder)
    return PersonalReward.load(saved.folder, open_encoder(encoder or saved.encoder_name, device))


def open_scorers(
    reward: str | Path,
    judge: str | Path | None = None,
    encoder: str | None = None,
    judge_encoder: str | None = None,
    content: str = "none",
    watch: Sequence[str] = (),
    device: str = "cpu",
) -> tuple[PersonalReward, dict[str, Scorer]]:
    """Load a personal reward, its judge, and population rewards that are only watched.

    Args:
        reward: Folder of the reward, or what recipes/fit_reward.py wrote.
        judge: Folder of another one, of other eyes or other ratings; None is the one fitted beside the reward, if any.
        encoder: Of the reward, by name; None is the one it was fitted with.
        judge_encoder: Of the judge; None is the one it was fitted with.
        content: Population reward that tells whether images show what their prompts ask for, e.g. "clip_score". "none" is
            none; nor is there one for "world", whose content judge is no population reward.
        watch: Further population rewards, by name.
        device: Where encoders and population rewards live.

    Returns:
        The reward, and all scorers by name: ``reward``, ``judge``, ``faithfulness``, and those watched.

    Raises:
        ConfigError: A part is missing or does not fit.
    """
    personal = open_reward(reward, encoder, device)
    scorers: dict[str, Scorer] = {"reward": personal}
    judge = judge if judge is not None else judge_folder(reward)
    if judge is not None:
        scorers["judge"] = Judge.of(personal, open_reward(judge, judge_encoder, device))
    if content not in (WORLD, "none"):
        scorers["faithfulness"] = load_population_reward(content, device=device)
    return personal, scorers | {name: load_population_reward(name, device=device) for name in watch}
