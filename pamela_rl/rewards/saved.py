"""What a saved reward says of itself, read without the libraries that run it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_rl.errors import ConfigError, UnknownUserError
from pamela_rl.rewards.settings import MAIN_MODEL
from pamela_rl.storage import recover

CONFIG, TENSORS = "reward.json", "reward.safetensors"
REWARDS, JUDGE = "rewards", "judge"  # folders of what recipes/fit_reward.py fits
CHOSEN_USERS = "rewards.json"


@dataclass(frozen=True)
class SavedReward:
    """A saved reward, unopened.

    Attributes:
        folder: Where it is.
        kind: Class of its model.
        encoder: Fingerprint of the encoder whose features it was fitted to.
        encoder_name: What ``open_encoder`` takes to open it.
        user_ids: Users it knows.
        config: All of ``reward.json``.
    """

    folder: Path
    kind: str
    encoder: str
    encoder_name: str
    user_ids: tuple[str, ...]
    config: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> SavedReward:
        """Read ``reward.json``.

        Args:
            folder: Of the reward, or what recipes/fit_reward.py wrote, whose main reward is then taken.

        Raises:
            ConfigError: There is no saved reward in ``folder``.
        """
        path = reward_folder(folder)
        try:
            config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
            users = tuple(config["model"]["user_ids"])
            return cls(path, config["kind"], config["encoder"], config["encoder_name"], users, config)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise unreadable(path, error) from error

    def check_users(self, user_ids: Sequence[str]) -> None:
        """Refuse users the reward does not know.

        Raises:
            UnknownUserError: Names the first.
        """
        for user in user_ids:
            if user not in self.user_ids:
                raise unknown_user(user, self.user_ids)


def reward_folder(folder: str | Path) -> Path:
    """Return the folder of a reward: the one given, or the main reward in what recipes/fit_reward.py wrote."""
    path = recover(Path(folder))
    inside = path / REWARDS
    if (path / CONFIG).exists() or not inside.is_dir():
        return path
    if (inside / MAIN_MODEL).is_dir():
        return recover(inside / MAIN_MODEL)
    only = [child for child in sorted(inside.iterdir()) if (child / CONFIG).exists()]
    return only[0] if len(only) == 1 else path


def judge_folder(reward: str | Path) -> Path | None:
    """Return the judge that recipes/fit_reward.py fitted beside a reward, or None where there is none."""
    path = reward_folder(reward)
    beside = path.parent.parent / JUDGE
    return beside if path.parent.name == REWARDS and (beside / CONFIG).exists() else None


def check_rewards(reward: Path, judge: Path | None, users: Sequence[str]) -> None:
    """Refuse folders that hold no reward, and users the reward does not know.

    Raises:
        ConfigError: A folder holds no reward.
        UnknownUserError: The reward does not know a user.
    """
    SavedReward.read(reward).check_users(users)
    if judge is not None:
        SavedReward.read(judge)


def unreadable(folder: Path, error: Exception) -> ConfigError:
    """Make the error of a folder that holds no reward."""
    return ConfigError(f"no personal reward can be read from {folder} ({error}); fit one first.")


def unknown_user(user_id: str, user_ids: Sequence[str]) -> UnknownUserError:
    """Make the error of a user that a reward does not know."""
    return UnknownUserError(
        f"the reward does not know user {user_id!r}; it knows {len(user_ids)} people "
        f"({', '.join(list(user_ids)[:3])}, …). Show some of their ratings with introduce first."
    )


def chosen_users(folder: Path) -> list[str]:
    """Read the users for whom the rewards in ``folder`` were fitted, in order; none where nothing says so."""
    return read_chosen_users(folder) if (folder / CHOSEN_USERS).exists() else []


def read_chosen_users(folder: Path) -> list[str]:
    """Read the users for whom the rewards in ``folder`` were fitted, in order.

    Raises:
        ConfigError: Nothing says so.
    """
    path = folder / CHOSEN_USERS
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["users"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no people can be read from {path} ({error}); run the quickstart first, or name them with --users."
        ) from error
