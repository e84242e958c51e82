from __future__ import annotations

from pathlib import Path

import pytest

from pamela_rl.rewards.hacking import hacking_warning

JUDGE = Path("judge")


@pytest.mark.parametrize(
    ("encoder", "judge", "judge_encoder", "patience", "kl_target", "warned"),
    [
        ("pixels", None, None, 0, 0.0, True),
        ("pixels", None, None, 3, 0.0, True),  # there is no judge to stop it
        ("pixels", JUDGE, None, 0, 0.0, True),  # nor does a judge alone
        ("pixels", JUDGE, None, 3, 0.0, True),  # it is as blind
        ("pixels", JUDGE, "world", 3, 0.0, False),
        ("pixels", None, None, 0, 0.2, False),
        ("world", None, None, 0, 0.0, False),
    ],
)
def test_a_reward_of_pixels_that_nothing_holds_is_warned_of(
    encoder: str, judge: Path | None, judge_encoder: str | None, patience: int, kl_target: float, warned: bool
) -> None:
    assert ("fooled" in hacking_warning(encoder, judge, judge_encoder, patience, kl_target)) == warned
