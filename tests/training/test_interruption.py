from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from test_loop import ALGORITHM, PROMPTS, SHORT, darkness
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.nft import NFT
from pamela_rl.config import EMASettings
from pamela_rl.diffusion.adapters import adapter_state, remove_adapter
from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.policy import Policy
from pamela_rl.errors import CheckpointError, Interrupted, StorageError
from pamela_rl.storage import read_metrics
from pamela_rl.training.checkpoint import load_checkpoint
from pamela_rl.training.interruption import StopRequested, StopRequests
from pamela_rl.training.loop import train
from pamela_rl.types import RewardOutput

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "processes" / "train_slowly.py"


@pytest.fixture
def python_hears_interrupts() -> Iterator[None]:
    """A shell starts what it puts in the background deaf to SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_hears_interrupts")
def test_the_first_signal_is_heard_at_once_and_the_second_kills_as_usual() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stop:
        with pytest.raises(StopRequested):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_during_a_save_waits_for_its_end() -> None:
    done = []
    with StopRequests() as stop:
        with pytest.raises(StopRequested), stop.held():  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            done.append("saved")
        assert stop.requested == "SIGINT"
    assert done == ["saved"]


def test_in_another_thread_nothing_is_heard_and_nothing_breaks() -> None:
    before, heard = signal.getsignal(signal.SIGTERM), []

    def enter() -> None:
        with StopRequests() as stop:
            heard.append(stop.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert heard == [None]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "ema"), [(ALGORITHM, EMASettings()), (NFT(learning_rate=3e-3), EMASettings(decay=0.5))]
)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_to_the_same_adapter(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path, algorithm: Algorithm, ema: EMASettings
) -> None:
    config = replace(SHORT, checkpoint_every=100, ema=ema)
    train(small_policy, darkness, PROMPTS, config, algorithm, tmp_path / "whole", accelerator)
    whole = adapter_state(small_policy, "ada")
    remove_adapter(small_policy, "ada")
    calls = []

    def stopping(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return darkness(images, prompts, user_ids)

    with pytest.raises(
        Interrupted, match=r"stopped by SIGTERM; 2 iterations are saved in .*, and the same command goes on"
    ):
        train(small_policy, stopping, PROMPTS, config, algorithm, tmp_path / "stopped", accelerator)
    remove_adapter(small_policy, "ada")
    saved = load_checkpoint(tmp_path / "stopped" / "checkpoint")
    assert saved is not None
    assert saved.iteration == 2
    train(small_policy, darkness, PROMPTS, config, algorithm, tmp_path / "stopped", accelerator)
    resumed = adapter_state(small_policy, "ada")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_a_command_that_is_stopped_ends_with_a_sentence_and_a_code_of_its_own(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, SCRIPT, tmp_path], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(read_metrics(tmp_path / "metrics.jsonl")) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "iterations are saved in" in errors
    assert "Traceback" not in errors
    state = json.loads((tmp_path / "checkpoint" / "state.json").read_text())
    assert state["iteration"] >= 1


@pytest.fixture
def small_files() -> Iterator[None]:
    """Restore the largest size a file may have, which a test lowers: to a program it looks like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_the_last_checkpoint_and_a_sentence(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    calls = []

    def filling(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        calls.append(1)
        if len(calls) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return darkness(images, prompts, user_ids)

    with pytest.raises(StorageError, match=r"the checkpoint after 2 iterations cannot be written to .*free some space"):
        train(small_policy, filling, PROMPTS, SHORT, ALGORITHM, tmp_path, accelerator)
    saved = load_checkpoint(tmp_path / "checkpoint")
    assert saved is not None
    assert saved.iteration == 1
    assert sorted(path.name for path in tmp_path.iterdir() if "partial" in path.name) == []


def test_a_folder_that_is_gone_is_a_sentence(small_policy: Policy, accelerator: Accelerator, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def removing(images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        if folder.is_dir():
            os.rename(folder, tmp_path / "elsewhere")
            folder.write_text("a file now")
        return darkness(images, prompts, user_ids)

    with pytest.raises(StorageError, match=r"the record cannot be written to .*metrics.jsonl.*What was saved before"):
        train(small_policy, removing, PROMPTS, SHORT, ALGORITHM, folder, accelerator)


def test_a_checkpoint_of_another_adapter_is_refused_with_what_differs(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    once = replace(SHORT, num_iterations=1)
    train(small_policy, darkness, PROMPTS, once, ALGORITHM, tmp_path, accelerator)
    remove_adapter(small_policy, "ada")
    (tmp_path / "run.json").unlink()
    before = load_file(str(tmp_path / "checkpoint" / "adapter.safetensors"))
    wider = replace(once, lora=replace(once.lora, rank=6))
    with pytest.raises(CheckpointError, match=r"is of another adapter \(.* is \(4, \d+\) there, \(6, \d+\) here\)"):
        train(small_policy, darkness, PROMPTS, wider, ALGORITHM, tmp_path, accelerator)
    remove_adapter(small_policy, "ada")
    (tmp_path / "run.json").unlink()
    other = policy_for(small_policy.pipeline)
    fewer = type("Fewer", (type(other),), {"lora_target_modules": ("to_q",)})(small_policy.pipeline)
    with pytest.raises(CheckpointError, match=r"\d+ are not this model's, e.g. "):
        train(fewer, darkness, PROMPTS, once, ALGORITHM, tmp_path, accelerator)
    after = load_file(str(tmp_path / "checkpoint" / "adapter.safetensors"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_of_another_release_is_refused(
    small_policy: Policy, accelerator: Accelerator, tmp_path: Path
) -> None:
    once = replace(SHORT, num_iterations=1)
    train(small_policy, darkness, PROMPTS, once, ALGORITHM, tmp_path, accelerator)
    remove_adapter(small_policy, "ada")
    path = tmp_path / "checkpoint" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    with pytest.raises(CheckpointError, match=r"its format is 0, this release writes 4"):
        train(small_policy, darkness, PROMPTS, once, ALGORITHM, tmp_path, accelerator)


@pytest.mark.slow
def test_runs_that_are_killed_end_with_the_same_adapter() -> None:
    command = [sys.executable, ROOT / "benchmarks" / "kills.py", "--kills", "1", "--seed", "1"]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 of 1 adapters are equal to the bit; 1 of the runs were killed" in result.stdout
