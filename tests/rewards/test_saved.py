from __future__ import annotations

import json
from pathlib import Path

import pytest

from pamela_rl.errors import ConfigError, UnknownUserError
from pamela_rl.rewards.models import MODELS
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.saved import SavedReward, check_rewards, chosen_users, read_chosen_users
from pamela_rl.rewards.settings import MODEL_NAMES
from pamela_rl.rewards.user_index import user_rows


@pytest.fixture
def folder(world_reward: PersonalReward, tmp_path: Path) -> Path:
    world_reward.save(tmp_path / "reward")
    return tmp_path / "reward"


def test_a_saved_reward_says_whom_it_knows_and_what_it_sees_by(folder: Path, world_reward: PersonalReward) -> None:
    saved = SavedReward.read(folder)
    assert saved.user_ids == world_reward.model.user_ids
    assert saved.encoder == world_reward.encoder.fingerprint
    assert saved.kind == "TasteBasis"


def test_users_it_does_not_know_are_refused_in_the_words_of_the_reward_itself(
    folder: Path, world_reward: PersonalReward
) -> None:
    SavedReward.read(folder).check_users(list(world_reward.model.user_ids))
    with pytest.raises(UnknownUserError) as unopened:
        check_rewards(folder, None, ["rater-001", "nobody"])
    with pytest.raises(UnknownUserError) as opened:
        user_rows(["nobody"], world_reward.model.user_ids)
    assert str(unopened.value) == str(opened.value)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"kind": "TasteBasis", "encoder": "x", "model": {}}'])
def test_a_folder_without_a_reward_is_named(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "reward.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"no personal reward can be read from {tmp_path} .*; fit one first"):
        SavedReward.read(tmp_path)


def test_a_judge_that_is_not_there_is_refused_too(folder: Path, tmp_path: Path) -> None:
    check_rewards(folder, folder, [])
    with pytest.raises(ConfigError, match="no personal reward can be read from"):
        check_rewards(folder, tmp_path / "nowhere", [])


def test_the_users_rewards_were_fitted_for_are_read_in_their_order(tmp_path: Path) -> None:
    assert chosen_users(tmp_path) == []
    with pytest.raises(ConfigError, match="run the quickstart first, or name them with --users"):
        read_chosen_users(tmp_path)
    (tmp_path / "rewards.json").write_text(json.dumps({"users": ["b", "a"]}), encoding="utf-8")
    assert chosen_users(tmp_path) == read_chosen_users(tmp_path) == ["b", "a"]


def test_the_names_known_without_the_models_are_those_of_the_models() -> None:
    assert tuple(MODELS) == MODEL_NAMES
