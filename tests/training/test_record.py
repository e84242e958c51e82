from __future__ import annotations

from pathlib import Path

from pamela_rl.storage import read_metrics
from pamela_rl.training.record import RunLog


def test_the_record_keeps_small_numbers_and_says_null_where_there_is_none(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "metrics.jsonl", 0, True)
    log.log(0, {"train/approx_kl": 5.123456789e-11, "train/loss": float("nan"), "rollout/reward_mean": 3.123456789})
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"iteration": 0, "train/approx_kl": 5.1234568e-11, "train/loss": None, "rollout/reward_mean": 3.1234568}
    ]
