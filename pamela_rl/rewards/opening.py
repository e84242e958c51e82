"""Rewards and judges by folder, by name and by file: what trains, and what only watches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pamela_rl.rewards.choice import RewardChoice, RewardPart, is_file, parts_of
from pamela_rl.rewards.combined import CombinedReward, Reference
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.function import FunctionReward, Metadata
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.population import load_population_reward
from pamela_rl.rewards.saved import SavedReward, judge_folder
from pamela_rl.rewards.settings import WORLD
from pamela_rl.types import Reward, Scorer


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
    metadata: Metadata | None = None,
) -> tuple[PersonalReward, dict[str, Scorer]]:
    """Load a personal reward, its judge, and other rewards that are only watched.

    Args:
        reward: Folder of the reward, or what recipes/fit_reward.py wrote.
        judge: Folder of another one, of other eyes or other ratings; None is the one fitted beside the reward, if any.
        encoder: Of the reward, by name; None is the one it was fitted with.
        judge_encoder: Of the judge; None is the one it was fitted with.
        content: As ``open_watched`` takes it.
        watch: Likewise.
        device: Where encoders and population rewards live.
        metadata: As ``open_named`` takes it.

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
    return personal, scorers | open_watched(content, watch, device, metadata)


def open_watched(
    content: str, watch: Sequence[str], device: str, metadata: Metadata | None = None
) -> dict[str, Scorer]:
    """Load rewards that are only watched.

    Args:
        content: Population reward that tells whether images show what their prompts ask for, e.g. "clip_score". "none" is
            none; nor is there one for "world", whose content judge is no population reward.
        watch: Further ones, by name or by file; a file's own is called as the file.
        device: Where they live.
        metadata: As ``open_named`` takes it.
    """
    shown: dict[str, Scorer] = (
        {} if content in (WORLD, "none") else {"faithfulness": open_named(content, device, metadata)}
    )
    return shown | {Path(name).stem if is_file(name) else name: open_named(name, device, metadata) for name in watch}


def open_named(name: str, device: str, metadata: Metadata | None = None) -> Reward:
    """Load a population reward by name, or the function ``reward`` of a Python file.

    Args:
        name: e.g. "pickscore", or "my_reward.py".
        device: Where a population reward lives.
        metadata: What the prompt file says of each prompt, by prompt, for functions that ask for it.
    """
    return FunctionReward(Path(name), metadata or {}) if is_file(name) else load_population_reward(name, device=device)


def open_choice(
    choice: RewardChoice, personal: PersonalReward | None, device: str, metadata: Metadata, reference: Reference | None
) -> Reward:
    """Return what a run maximises: the personal reward alone, or the weighted sum that is asked for.

    Args:
        choice: Of the run.
        personal: Its personal reward, where it has one.
        device: Where population rewards live.
        metadata: As ``open_named`` takes it.
        reference: Images of the base model, by which parts are put on one scale; None where none asks for it.

    Raises:
        ConfigError: A part cannot be loaded.
    """
    parts = parts_of(choice)
    if personal is not None and len(parts) == 1 and not isinstance(choice, dict):
        return personal
    opened: dict[str, tuple[Reward, RewardPart]] = {}
    for name, part in parts.items():
        own = personal if part.folder is not None else open_named(str(part.file or name), device, metadata)
        assert own is not None
        opened[name] = own, part
    return CombinedReward(opened, reference)
