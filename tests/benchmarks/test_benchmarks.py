"""Benchmarks that stand for a requirement run here too, small or on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pamela_rl.rewards.personal import PersonalReward

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.slow


def run(script: str, *flags: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_planned_memory_is_within_a_fifth_of_what_stable_diffusion_takes_on_the_cpu() -> None:
    facts = json.loads(run("memory_plan.py", "--measure", "sd15", "--side", "256").splitlines()[-1])
    assert facts["planned"] > 4e9
    assert 0.8 <= facts["ratio"] <= 1.2


@pytest.mark.parametrize(
    "part", ["families", "sd15", "sdxl", "sd35", "flux", "compiled"]
)  # CI runs the quickstart itself
def test_each_part_of_the_check_on_a_card_runs_small_on_the_cpu(part: str, tmp_path: Path) -> None:
    printed = run("gpu_check.py", "--small", "--output_dir", str(tmp_path), "--only", part)
    assert f"{part}: result ok" in printed
    assert not (tmp_path / f"{part}-model").exists()  # random weights are deleted


SIDE_BY_SIDE = ("--images", "4", "--steps", "2", "--trained", "1", "--sample_batch", "4", "--train_batch", "2")


def test_the_bare_calls_and_ours_are_timed_in_turn_and_it_says_how_to_get_trl(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    printed = run(
        "side_by_side.py", *SIDE_BY_SIDE, "--rounds", "2", "--only", "bare", "ours", "trl", "--json", str(rows)
    )
    assert "pip install --no-deps --target DIR trl==0.23.1" in printed
    found = json.loads(rows.read_text())
    assert [row["row"] for row in found["rows"]] == ["bare", "ours"]
    assert [len(round_) for round_ in found["rounds"]] == [2, 2]
    bare, ours = found["rows"]
    assert bare["over_bare"] == 1
    assert ours["over_bare"] > 0.5
    for row in (bare, ours):
        assert 0 < row["sampling"] + row["training"] <= 1.2 * row["total"]


def test_another_trl_than_the_last_with_ddpo_is_refused(tmp_path: Path) -> None:
    flags = [*SIDE_BY_SIDE, "--only", "trl", "--trl", str(tmp_path)]  # empty, so that the installed one is found
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "side_by_side.py"), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not 0.23.1" in done.stderr


def test_the_time_to_a_gain_in_true_rating_is_measured(world_reward: PersonalReward, tmp_path: Path) -> None:
    world_reward.save(tmp_path / "reward")
    rows = tmp_path / "rows.json"
    flags = ["--users", "rater-033", "--iterations", "1", "--seeds_per_prompt", "1", "--targets", "-3", "2"]
    printed = run("time_to_taste.py", "--reward", str(tmp_path / "reward"), *flags, "--json", str(rows))
    assert "pip install --no-deps --target DIR trl==0.23.1" in printed
    (row,) = json.loads(rows.read_text())["rows"]
    ((seconds, gain),) = row["curve"]
    assert row["seconds_to"] == {"-3": seconds, "2": None}
    assert abs(gain) < 2
    assert f"not within {seconds:.0f}" in printed
