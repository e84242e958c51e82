"""People shared out over processes, of which one may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import read_metrics
from pamela_rl.training.outcomes import FINISHED

ROOT = Path(__file__).parents[2]
TWO_PROCESSES = ROOT / "recipes" / "configs" / "accelerate" / "two_cpu_processes.yaml"
USERS = [f"rater-{number:03d}" for number in range(6)]
SHORT = [
    "--model.name=world", "--train.num_iterations=2", "--train.images_per_iteration=4", "--train.group_size=2",
    "--train.batch_size=4", "--train.checkpoint_every=1", "--train.sampling.num_inference_steps=3",
    "--train.sampling.train_steps=2", "--train.validation.every=0", "--train.validation.strengths=[]",
    "--num_inference_steps=2", f"--users=[{','.join(USERS)}]", "--together=2",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture
def reward(world_reward: PersonalReward, tmp_path: Path) -> Path:
    world_reward.save(tmp_path / "reward")
    return tmp_path / "reward"


def published(run: Path) -> dict[str, float]:
    return {path.parent.name: path.stat().st_mtime for path in run.glob("adapters/*/adapter.json")}


def finished(run: Path) -> list[str]:
    """Whose adapter is published and known to be; who is killed between the two is published again."""
    return [path.parent.name for path in run.glob(f"users/*/{FINISHED}")]


def waited_for(what: Callable[[], bool], seconds: int = 400) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.2)


def all_are_published_after_two_iterations(run: Path) -> None:
    assert sorted(published(run)) == USERS
    assert [len(read_metrics(run / "users" / user / "metrics.jsonl")) for user in USERS] == [2] * len(USERS)
    assert set(pd.read_parquet(run / "users.parquet")["status"]) == {"published"}


def test_launched_processes_take_people_of_their_own(reward: Path, tmp_path: Path) -> None:
    run = tmp_path / "out"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES),
               "recipes/train.py", f"--reward={reward}", f"--output_dir={run}", *SHORT]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    all_are_published_after_two_iterations(run)
    assert result.stdout.count("6 of 6 people have an adapter.") == 1


def test_launched_processes_share_the_images_of_people_who_are_fewer(reward: Path, tmp_path: Path) -> None:
    run = tmp_path / "out"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES),
               "recipes/train.py", f"--reward={reward}", f"--output_dir={run}", *SHORT, "--users=[rater-003]",
               "--together=1"]  # fmt: skip
    for _ in range(2):  # the second has nothing to do
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert result.returncode == 0, result.stderr
    assert list(published(run)) == ["rater-003"]
    assert [row["iteration"] for row in read_metrics(run / "users" / "rater-003" / "metrics.jsonl")] == [0, 1]


def test_ray_takes_up_what_a_worker_that_died_had_begun(reward: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run = tmp_path / "out"
    command = [
        sys.executable, "recipes/train.py", f"--reward={reward}", f"--output_dir={run}", *SHORT, "--ray=auto",
    ]  # fmt: skip
    environment = os.environ | {"RAY_TMPDIR": "/tmp", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as driver:
        try:
            waited_for(lambda: bool(finished(run)))
            before = {user: published(run)[user] for user in finished(run)}
            os.kill(a_worker(), signal.SIGKILL)
            output, _ = driver.communicate(timeout=240)
        finally:
            driver.kill()
    assert driver.returncode == 0, output
    all_are_published_after_two_iterations(run)
    assert {user: published(run)[user] for user in before} == before  # nobody twice
    assert "6 of 6 people have an adapter." in output


def a_worker() -> int:
    """One of the processes that work through the people, by the name that Ray gives them."""
    rows = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return int(next(row.split()[0] for row in rows if "ray::people" in row))
