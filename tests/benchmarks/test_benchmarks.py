"""Benchmarks that stand for a requirement run here too, small or on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
