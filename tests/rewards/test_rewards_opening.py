from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.opening import open_reward, open_scorers
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.types import Scorer


def test_a_judge_may_see_by_an_encoder_of_its_own(world_reward: PersonalReward, tmp_path: Path) -> None:
    others = FittedOn(frozenset({"somebody else"}), frozenset({"another picture"}), 1)
    world_reward.save(tmp_path / "judged")
    PersonalReward(PixelEncoder(), world_reward.model, others).save(tmp_path / "judge")

    def opened(judge_encoder: str | None) -> dict[str, Scorer]:
        return open_scorers(tmp_path / "judged", tmp_path / "judge", judge_encoder=judge_encoder)[1]

    judge = opened(None)["judge"]  # its encoder is written down
    assert isinstance(judge, Judge)
    assert judge.encoder_name == "pixels"
    with pytest.raises(ConfigError, match="encoder"):
        opened("world")


def test_what_was_fitted_together_is_opened_together(world_reward: PersonalReward, tmp_path: Path) -> None:
    world_reward.save(tmp_path / "mine" / "rewards" / "taste_basis")
    assert set(open_scorers(tmp_path / "mine")[1]) == {"reward"}
    others = PersonalReward(PixelEncoder(), world_reward.model, world_reward.fitted_on)
    others.save(tmp_path / "mine" / "judge")
    for folder in (tmp_path / "mine", tmp_path / "mine" / "rewards" / "taste_basis"):
        reward, scorers = open_scorers(folder)
        assert reward.fitted_on == world_reward.fitted_on
        assert set(scorers) == {"reward", "judge"}


def test_a_reward_comes_with_its_encoder(world_reward: PersonalReward, tmp_path: Path) -> None:
    world_reward.save(tmp_path / "reward")
    images, users = torch.rand(2, 3, 64, 64), list(world_reward.model.user_ids[:2])
    expected = world_reward(images, ["a boat", "a tree"], users)
    torch.testing.assert_close(
        open_reward(tmp_path / "reward", "world")(images, ["a boat", "a tree"], users).mean, expected.mean
    )
    with pytest.raises(ConfigError, match="was fitted on features of encoder"):
        open_reward(tmp_path / "reward", "pixels")


def test_what_is_watched_is_looked_for_where_its_authors_publish_it(
    world_reward: PersonalReward, tmp_path: Path
) -> None:
    world_reward.save(tmp_path / "reward")
    for watched in ({"content": "clip_score"}, {"watch": ["clip_score"]}):
        with pytest.raises(ConfigError, match="openai/clip"):
            open_scorers(tmp_path / "reward", **watched)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the reward is 'magic'; use one of aesthetic, clip_score"):
        open_scorers(tmp_path / "reward", watch=["magic"])
    assert set(open_scorers(tmp_path / "reward", content="world")[1]) == {"reward"}
