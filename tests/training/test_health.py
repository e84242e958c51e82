from __future__ import annotations

import logging

import pytest
import torch

from pamela_rl.errors import TrainingError
from pamela_rl.training.health import Thresholds, check_health, finite_images, summary

HEALTHY = {
    "rollout/bad_image_share": 0.0, "rollout/bad_reward_share": 0.0, "train/skipped_updates": 0.0, "train/updates": 2.0,
}  # fmt: skip
EXACT = Thresholds(0.0, 0.0)


@pytest.mark.parametrize("error", [0.2, float("inf")])
def test_a_ratio_that_is_off_before_the_first_update_stops_the_run(error: float) -> None:
    check_health(HEALTHY, 0.5, EXACT)
    check_health({**HEALTHY, "train/sampling_mismatch": 0.1}, 0.5, Thresholds(0.1, 0.1))
    with pytest.raises(TrainingError, match=r"ratios before the first update are off by .* \(allowed: 0.1\)"):
        check_health({**HEALTHY, "train/sampling_mismatch": error}, 0.5, Thresholds(0.1, 0.1))


def test_a_mismatch_between_the_thresholds_is_only_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_health({**HEALTHY, "train/sampling_mismatch": 0.05}, 0.5, Thresholds(0.05, 0.1))
        assert not caplog.records
        check_health({**HEALTHY, "train/sampling_mismatch": 0.06}, 0.5, Thresholds(0.05, 0.1))
    assert "off by 0.06" in caplog.text


def test_images_that_are_not_finite_are_told_from_rewards_that_are_not() -> None:
    images = torch.zeros(4, 3, 2, 2)
    images[1, 0, 0, 0], images[2, 2, 1, 1] = torch.nan, torch.inf
    finite = finite_images(images)
    assert finite.tolist() == [True, False, False, True]
    metrics = summary(torch.tensor([1.0, torch.nan, torch.nan, 3.0]), finite)
    assert metrics["rollout/reward_mean"] == 2.0
    assert metrics["rollout/bad_image_share"] == metrics["rollout/bad_reward_share"] == 0.5
    with pytest.raises(TrainingError, match="50% of this iteration's images are not finite, whatever the reward"):
        check_health({**HEALTHY, **metrics}, 0.4, EXACT)
    blind = summary(torch.full((4,), torch.nan), torch.ones(4, dtype=torch.bool))
    with pytest.raises(TrainingError, match="100% of this iteration's rewards are not finite; look at the reward"):
        check_health({**HEALTHY, **blind}, 0.4, EXACT)
