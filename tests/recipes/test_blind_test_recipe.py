from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from blind_test import BlindTestConfig, blind_test

from pamela_rl.cli.command_line import read_config
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.evaluation.compare import UserComparison
from pamela_rl.evaluation.gallery import save_gallery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison of one person's two arms on two prompts."""
    images = {arm: torch.rand(2, 3, 8, 8) for arm in ("base", "own")}
    save_gallery(tmp_path / "run", [UserComparison("ada", ("a", "b"), (1, 2), images, {}, {})])
    return tmp_path


def config(folder: Path, *arguments: str) -> BlindTestConfig:
    read_back = any(argument.startswith("--choices") for argument in arguments)
    flags = [f"--output_dir={folder / 'blind'}", *([] if read_back else [f"--run={folder / 'run'}"]), *arguments]
    return read_config(BlindTestConfig, "", flags)


def test_pages_are_made_and_what_was_chosen_is_read_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind_test(config(folder, "--repeated=0"))
    assert "2 pairs, 0 of them twice" in capsys.readouterr().out
    key = json.loads((folder / "blind" / "keys" / "ada.json").read_text(encoding="utf-8"))
    sent = folder / "choices-ada.json"
    sent.write_text(json.dumps({"page": key["page"], "choices": dict.fromkeys(key["pairs"], "tie")}), encoding="utf-8")
    for choices in (folder, f"[{sent}]"):
        blind_test(config(folder, f"--choices={choices}"))
        assert "2 choices of 1 person" in capsys.readouterr().out


def test_what_cannot_work_is_refused_with_the_config(folder: Path) -> None:
    with pytest.raises(ConfigError, match="num_pairs is 0"):
        config(folder, "--num_pairs=0")
    with pytest.raises(ConfigError, match="arms names 'own' alone; name two or more"):
        config(folder, "--arms=[own]")
    with pytest.raises(DataError, match=r"there are no pictures in .*blind"):
        config(folder, f"--run={folder / 'blind'}")
    with pytest.raises(DataError, match=r"there is no choices-\*\.json in .*run; put the files there"):
        config(folder, f"--choices={folder / 'run'}")
    with pytest.raises(DataError, match="choices is an empty list"):
        config(folder, "--choices=[]")
