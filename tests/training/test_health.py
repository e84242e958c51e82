from __future__ import annotations

import pytest

from pamela_rl.errors import TrainingError
from pamela_rl.training.health import check_health

HEALTHY = {"rollout/bad_reward_share": 0.0, "train/skipped_updates": 0.0, "train/updates": 2.0}


@pytest.mark.parametrize("error", [0.2, float("inf")])
def test_a_ratio_that_is_off_before_the_first_update_stops_the_run(error: float) -> None:
    check_health(HEALTHY, 0.5, 0.0)
    check_health({**HEALTHY, "train/ratio_max_error": 0.1}, 0.5, 0.1)
    with pytest.raises(TrainingError, match=r"the ratio before the first update is off by .* \(allowed: 0.1\)"):
        check_health({**HEALTHY, "train/ratio_max_error": error}, 0.5, 0.1)
