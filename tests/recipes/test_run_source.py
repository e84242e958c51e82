from __future__ import annotations

from pathlib import Path

import pytest
from run_source import open_scorers

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.judge import Judge
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.types import Scorer


def test_a_judge_may_see_by_an_encoder_of_its_own(world_reward: PersonalReward, tmp_path: Path) -> None:
    others = FittedOn(frozenset({"somebody else"}), frozenset({"another picture"}), 1)
    world_reward.save(tmp_path / "judged")
    PersonalReward(PixelEncoder(), world_reward.model, others).save(tmp_path / "judge")

    def opened(judge_encoder: str | None) -> dict[str, Scorer]:
        return open_scorers(
            tmp_path / "judged", tmp_path / "judge", "world", "cpu", "none", [], False, judge_encoder
        )[1]  # fmt: skip

    assert isinstance(opened("pixels")["judge"], Judge)
    with pytest.raises(ConfigError, match="encoder"):
        opened(None)
