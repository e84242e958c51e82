"""What a run is to maximise, checked without torch: a personal reward, one by name or file, or a weighted sum of such."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_rl.errors import ConfigError
from pamela_rl.plugins import check_function
from pamela_rl.rewards.saved import check_rewards
from pamela_rl.rewards.settings import POPULATION_NAMES

FUNCTION = "reward"  # of a file of one's own


@dataclass(frozen=True)
class RewardPart:
    """One reward of a weighted sum.

    Attributes:
        weight: Of its score; negative to minimise it.
        folder: Of a personal reward: what recipes/fit_reward.py wrote.
        file: A Python file with a function ``reward``; without ``folder`` and ``file`` the part's name is that of a reward of
            the average person, e.g. pickscore.
        normalise: Subtract the mean and divide by the standard deviation of its scores of images of the base model, which are
            drawn once, before the first iteration. False adds the score as it is.
    """

    weight: float = 1.0
    folder: Path | None = None
    file: Path | None = None
    normalise: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight == 0:
            raise ConfigError(
                f"the weight of a reward is {self.weight}; use a finite number other than 0, and to watch a reward without "
                "training on it give it as --watch."
            )
        if self.folder is not None and self.file is not None:
            raise ConfigError(f"a reward has both folder {self.folder} and file {self.file}; give one of them.")


RewardChoice = Path | dict[str, RewardPart]


def is_file(name: str | Path) -> bool:
    """Whether a reward's name is that of a Python file."""
    return Path(name).suffix == ".py"


def parts_of(choice: RewardChoice) -> Mapping[str, RewardPart]:
    """Return a reward's parts by name; one that is given alone is the only part, and its score is taken as it is."""
    if isinstance(choice, dict):
        return choice
    if is_file(choice):
        return {choice.stem: RewardPart(file=choice, normalise=False)}
    if str(choice) in POPULATION_NAMES and not choice.exists():
        return {str(choice): RewardPart(normalise=False)}
    return {"personal": RewardPart(folder=choice, normalise=False)}


def personal_folder(choice: RewardChoice | None) -> Path | None:
    """Return where the personal reward among the parts is, if there is one."""
    folders = [] if choice is None else [part.folder for part in parts_of(choice).values() if part.folder is not None]
    return folders[0] if folders else None


def compares(choice: RewardChoice) -> bool:
    """Whether images of the base model are needed, to put parts on one scale."""
    return any(part.normalise for part in parts_of(choice).values())


def in_words(choice: RewardChoice) -> str:
    """Say for the plan what is added up."""
    parts = parts_of(choice)
    terms = " + ".join(f"{part.weight:g} x {name}{'*' * part.normalise}" for name, part in parts.items())
    return f"{terms}{', * in standard deviations of the base model' * compares(choice)}"


def check_choice(choice: RewardChoice, judge: Path | None, users: Sequence[str]) -> None:
    """Refuse rewards that cannot be, and users whom a personal one does not know.

    Raises:
        ConfigError: Names the part, and what would do.
        UnknownUserError: The personal reward does not know a user.
    """
    parts = parts_of(choice)
    personal = [name for name, part in parts.items() if part.folder is not None]
    if not parts:
        raise ConfigError("reward has no parts; give at least one, e.g. {pickscore: {weight: 1}}.")
    if len(personal) > 1:
        raise ConfigError(f"the rewards {' and '.join(personal)} are both personal; a run has one, so leave one out.")
    for name, part in parts.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise ConfigError(
                f"a reward is called {name!r}; metrics bear its name: use letters, digits, '_', '.' and '-'."
            )
        if part.folder is None:
            check_named(name if part.file is None else str(part.file))
    folder = personal_folder(choice)
    if folder is not None:
        check_rewards(folder, judge, users)
    elif judge is not None:
        raise ConfigError(
            f"judge is {judge}, but no part of the reward is personal, so it judges nothing; leave it out."
        )
    elif not users:
        raise ConfigError(
            f"the reward ({', '.join(parts)}) knows nobody by name; say for whom to train, e.g. --users '[me]'."
        )


def check_named(name: str) -> None:
    """Refuse what is neither the name of a reward of the average person nor a file with a function ``reward``.

    Raises:
        ConfigError: Says what would do.
    """
    if is_file(name):
        check_function(Path(name), FUNCTION, "reward")
    elif name not in POPULATION_NAMES:
        raise ConfigError(
            f"the reward is {name!r}; use one of {', '.join(POPULATION_NAMES)}, the folder of a personal reward, or a Python "
            f"file with a function {FUNCTION}."
        )


def describe(choice: RewardChoice, encoder: str, metadata: Mapping[str, Any]) -> str:
    """Name everything that a reward's scores follow from, to be compared when a run is resumed.

    Args:
        choice: Of the run.
        encoder: Fingerprint of the personal reward's encoder.
        metadata: What prompts say to functions.
    """
    facts, parts = [], parts_of(choice)
    for name, part in parts.items():
        what = f"encoder {encoder}" if part.folder is not None else name
        if part.file is not None:
            digest = hashlib.sha256(part.file.read_bytes())
            digest.update(json.dumps(metadata, sort_keys=True).encode())
            what = f"{name} {digest.hexdigest()[:16]}"
        facts.append(
            what if not isinstance(choice, dict) else f"{part.weight:g} x {what}{' normalised' * part.normalise}"
        )
    return " + ".join(facts)
