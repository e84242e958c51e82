from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_pipelines import saved

from pamela_rl.storage import read_metrics

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "processes"
TWO_PROCESSES = ROOT / "recipes" / "configs" / "accelerate" / "two_cpu_processes.yaml"

ALL = ["ddpo", "nft", "draft"]

pytestmark = pytest.mark.slow


def launch(processes: int, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(processes, "train_once.py", str(folder), str(processes), *options)


def run(processes: int, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    accelerate = ["-m", "accelerate.commands.launch", "--config_file", str(TWO_PROCESSES)] if processes > 1 else []
    command = [sys.executable, *accelerate, str(SCRIPTS / script), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    result = launch(1, folder, "--algorithms", *ALL)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize(
    ("algorithms", "options", "tolerance"),
    [(ALL, ["--late", "1"], 0.0), (ALL, ["--shard"], 2e-6)],
    ids=["one late", "sharded"],
)  # gathered weights lie elsewhere in memory, and kernels round by that
def test_two_processes_make_the_same_pictures_and_the_same_adapter_as_one(
    alone: Path, tmp_path: Path, algorithms: list[str], options: list[str], tolerance: float
) -> None:
    result = launch(2, tmp_path, "--algorithms", *algorithms, *options)
    assert result.returncode == 0, result.stderr
    for name in algorithms:
        # NFT and DRaFT square small differences of predictions, whose rounding Adam carries on
        compare(alone / name, tmp_path / name, tolerance if name == "ddpo" else 50 * tolerance)


def compare(alone: Path, shared: Path, tolerance: float) -> None:
    weights = [load_file(str(run / "adapters" / "ada" / "pytorch_lora_weights.safetensors")) for run in (alone, shared)]
    assert weights[0].keys() == weights[1].keys()
    difference = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    assert difference <= max(tolerance, 1e-6)  # sums of a gradient round by how many processes add them up
    shares = [load_file(str(shared / f"pictures-{process}.safetensors"))["images"] for process in (0, 1)]
    whole = load_file(str(alone / "pictures-0.safetensors"))["images"]
    # a scorer sees its pictures as reward and as monitor, in every iteration
    together = torch.cat([share.unflatten(0, (-1, 4)) for share in shares], dim=1).flatten(0, 1)
    torch.testing.assert_close(together, whole, atol=tolerance, rtol=0)
    rows = [read_metrics(run / "users" / "ada" / "metrics.jsonl") for run in (alone, shared)]
    assert len(rows[0]) == 2
    for one, two in zip(*rows, strict=True):
        assert one.get("train/sampling_mismatch", 0.0) == two.get("train/sampling_mismatch", 0.0) == 0.0
        for name in one.keys() - {"time/seconds", "time/images_per_second", "memory/peak_gb"}:
            assert one[name] == pytest.approx(two[name], abs=1e-5), name


@pytest.mark.parametrize("family", ["StableDiffusionPipeline", "FluxPipeline"])
def test_a_model_of_which_each_process_reads_its_share_is_the_whole_one(tmp_path: Path, family: str) -> None:
    result = run(2, "load_shares.py", str(saved(family, tmp_path)))
    assert result.returncode == 0, result.stderr


def test_a_process_that_dies_ends_the_others_with_a_message(tmp_path: Path) -> None:
    started = time.monotonic()
    result = launch(2, tmp_path, "--dies", "1")
    assert result.returncode != 0
    assert "the reward of one process broke" in result.stderr
    assert time.monotonic() - started < 120  # and not by the time-out of a collective
