from __future__ import annotations

import pytest

from pamela_rl.rewards.hacking import hacking_warning


@pytest.mark.parametrize(
    ("encoder", "judge_encoder", "patience", "kl_target", "warned"),
    [
        ("pixels", None, 0, 0.0, True),
        ("pixels", None, 3, 0.0, True),  # there is no judge to stop it
        ("pixels", "world", 0, 0.0, True),  # nor does a judge alone
        ("pixels", "pixels", 3, 0.0, True),  # it is as blind
        ("pixels", "world", 3, 0.0, False),
        ("pixels", None, 0, 0.2, False),
        ("world", None, 0, 0.0, False),
    ],
)
def test_a_reward_of_pixels_that_nothing_holds_is_warned_of(
    encoder: str, judge_encoder: str | None, patience: int, kl_target: float, warned: bool
) -> None:
    assert ("fooled" in hacking_warning(encoder, judge_encoder, patience, kl_target)) == warned
