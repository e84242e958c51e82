from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from pamela_rl.errors import ConfigError
from pamela_rl.training.trackers import check_trackers, track, track_images, tracked


def show(name: str, folder: Path) -> None:
    """Two iterations and a look, as a run shows them."""
    files = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs"))
    accelerator = Accelerator(cpu=True, log_with=[name], project_config=files)
    with tracked(accelerator, "project", "ada", {"algorithm": "ddpo", "train": {"seed": 3}}, folder / "ada"):
        assert len(accelerator.trackers) == 1
        track_images(accelerator, "eval/images", torch.linspace(0, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8), 0)
        for iteration in range(2):
            track(accelerator, {"rollout/reward_mean": 1.5 + iteration, "train/kl": float("nan")}, iteration)
    assert accelerator.trackers == []
    assert accelerator.project_configuration.logging_dir == str(folder / "logs")


def test_tensorboard_keeps_scalars_and_pictures_of_each_person_apart(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    show("tensorboard", tmp_path)
    written = EventAccumulator(str(tmp_path / "logs" / "ada" / "project")).Reload()
    assert [(event.step, event.value) for event in written.Scalars("rollout/reward_mean")] == [(0, 1.5), (1, 2.5)]
    assert written.Tags()["scalars"] == ["rollout/reward_mean"]  # what is no number is not shown
    assert any("eval/images" in tag for tag in written.Tags()["images"])


def test_wandb_writes_a_run_without_a_network_and_goes_on_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    show("wandb", tmp_path)
    (run,) = tmp_path.glob("wandb/offline-run-*")
    assert list(run.glob("*.wandb"))
    assert len(list(run.glob("files/media/images/eval/images_*.png"))) == 2
    ids = {file.name for file in tmp_path.glob("wandb/*/run-*.wandb")}
    show("wandb", tmp_path)  # the run is resumed, under its id
    assert {file.name for file in tmp_path.glob("wandb/*/run-*.wandb")} == ids
    (tmp_path / "ada" / "trackers.json").unlink()  # it begins anew, as another
    show("wandb", tmp_path)
    assert len({file.name for file in tmp_path.glob("wandb/*/run-*.wandb")} - ids) == 1


@pytest.mark.slow
def test_trackio_keeps_a_run_on_this_machine(tmp_path: Path) -> None:
    own = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "PYTHONPATH": str(Path(__file__).parent)}
    script = f"from test_trackers import *; [show('trackio', Path({str(tmp_path)!r})) for _ in range(2)]"
    subprocess.run([sys.executable, "-c", script], check=True, env=own, capture_output=True, timeout=120)
    (database,) = (tmp_path / "trackio").rglob("*.db")
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(distinct run_id), count(*) from metrics").fetchone()[0] == 1


def test_without_trackers_nothing_is_opened_and_nothing_breaks(accelerator: Accelerator, tmp_path: Path) -> None:
    with tracked(accelerator, "project", "ada", {}, tmp_path):
        assert accelerator.trackers == []
        track(accelerator, {"a": 1.0}, 0)
        track_images(accelerator, "b", torch.zeros(1, 3, 8, 8), 0)


def test_trackers_that_cannot_be_opened_are_named_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wandb.init", fail_to_log_in)
    folder = str(tmp_path / "logs")
    files = ProjectConfiguration(project_dir=str(tmp_path), logging_dir=folder)
    accelerator = Accelerator(cpu=True, log_with=["tensorboard", "wandb"], project_config=files)
    with (
        pytest.raises(ConfigError, match=r"tensorboard, wandb cannot be opened \(no API key\); log in"),
        tracked(accelerator, "project", "ada", {}, tmp_path),
    ):
        pass
    assert accelerator.trackers == []
    assert accelerator.project_configuration.logging_dir == folder


def fail_to_log_in(**_: object) -> None:
    raise RuntimeError("no API key")


def test_a_tracker_that_is_not_known_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="trackers has 'mlflow'; use any of tensorboard, wandb, trackio"):
        check_trackers(["mlflow"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"'wandb', which is not installed: pip install 'pamela_rl\[wandb\]'"):
        check_trackers(["wandb"])
