from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from published_files import write_safetensors
from torch import nn

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.population.weights import find_weights, load_weights, read_tensors


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, touched: Path):
        self.touched = touched

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.touched}",)


@pytest.mark.parametrize("way", ["torch", "torch, old format", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, way: str) -> None:
    file, touched = tmp_path / "ImageReward.pt", tmp_path / "touched"
    content = {"state_dict": {"a": torch.zeros(1)}, "extra": Malicious(touched)}
    if way == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(ConfigError, match=r"ImageReward.pt cannot be read as tensors alone .*any other way would run"):
        read_tensors(file)
    assert not touched.exists()
    torch.load(file, weights_only=False) if way != "pickle" else pickle.loads(file.read_bytes())
    assert touched.exists()  # so it was dangerous


@pytest.mark.parametrize("content", [{"state_dict": {"a": torch.ones(2)}, "epoch": 3}, OrderedDict(a=torch.ones(2))])
@pytest.mark.parametrize("new", [True, False])
def test_published_forms_of_a_state_dict_are_read(tmp_path: Path, content: dict[str, Any], new: bool) -> None:
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert {name: value.tolist() for name, value in read_tensors(tmp_path / "a.pt").items()} == {"a": [1.0, 1.0]}


@pytest.mark.parametrize("content", [torch.ones(2), {"a": 1.0}, [torch.ones(2)]])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=r"holds a (Tensor|dict|list); a state dict of tensors by name is needed"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.safetensors"])
def test_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(ConfigError, match=f"{name} cannot be read as tensors alone"):
        read_tensors(tmp_path / name)


def test_in_a_folder_safetensors_come_before_the_published_file(tmp_path: Path) -> None:
    (tmp_path / "b.pth").touch()
    assert find_weights(tmp_path, ["a.pt", "b.pth"]).name == "b.pth"
    write_safetensors(tmp_path, "b.safetensors", {"a": torch.ones(1)})
    assert find_weights(tmp_path, ["a.pt", "b.pth"]).name == "b.safetensors"
    assert find_weights(tmp_path / "b.pth", ["a.pt"]).name == "b.pth"
    with pytest.raises(ConfigError, match=r"holds none of c.safetensors, c.pt; put one of them there"):
        find_weights(tmp_path, ["c.pt"])


def test_a_repository_that_cannot_be_reached_is_named_with_its_address() -> None:
    with pytest.raises(
        ConfigError, match=r"a.pt of nobody/nothing .* download it from https://huggingface.co/nobody/no"
    ):
        find_weights("nobody/nothing", ["a.pt"])


def test_tensors_that_do_not_fit_are_named() -> None:
    state = {"weight": torch.zeros(2, 2), "scale": torch.zeros(1)}
    with pytest.raises(
        ConfigError,
        match=r"a.pt does not hold .* Linear: weight is \(2, 2\), not \(1, 2\); bias is missing; "
        r"scale is unknown; give the file",
    ):
        load_weights(nn.Linear(2, 1), state, "a.pt")
    with pytest.raises(ConfigError, match="bias is missing; weight is missing; a is unknown and 1 more; give"):
        load_weights(nn.Linear(2, 1), {"a": torch.zeros(1), "b": torch.zeros(1)}, "a.pt")
