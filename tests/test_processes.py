from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from pamela_rl.tracking import read_metrics

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "processes" / "train_once.py"
TWO_PROCESSES = ROOT / "recipes" / "configs" / "accelerate" / "two_cpu_processes.yaml"


def test_two_processes_make_the_same_adapter_as_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, SCRIPT, one, "1"], check=True, capture_output=True, timeout=240)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", TWO_PROCESSES]
    subprocess.run([*launch, SCRIPT, two, "2"], check=True, capture_output=True, timeout=240)
    alone = load_file(str(one / "process-0.safetensors"))
    first, second = (load_file(str(two / f"process-{index}.safetensors")) for index in range(2))
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weight, atol=1e-5, rtol=0)
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (one, two)]
    assert [row["train/ratio_max_error"] for row in rows[0] + rows[1]] == [0.0] * 4
    for mine, theirs in zip(*rows, strict=True):
        for name in ("rollout/reward_mean", "train/kl_to_reference", "train/grad_norm", "train/clip_fraction"):
            assert abs(mine[name] - theirs[name]) < 1e-5, name
