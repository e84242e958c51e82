from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pamela_rl.errors import ConfigError
from pamela_rl.storage import ensure_writable, folder_name, publish, recover, write_tensors

STRANGE = [
    "../../x",
    "..",
    ".",
    "a.b",
    "a b",
    "A",
    "a",
    "ä",
    "user/1",
    "user\\1",
    "😀",
    "😁",
    "x" * 300,
    "con ",
    "-a",
    "a\n",
]


@pytest.mark.parametrize("user_id", STRANGE)
def test_any_user_id_becomes_one_plain_path_part(user_id: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", folder_name(user_id))
    assert len(folder_name(user_id)) <= 60


def test_different_users_never_share_a_folder() -> None:
    hashed = [folder_name(user) for user in STRANGE]
    names = hashed + [folder_name(name) for name in hashed]  # an id that looks like another's folder
    assert len({n.lower() for n in hashed}) == len(STRANGE)
    assert len(set(names)) == len(STRANGE) * 2 - len({n for n in hashed if folder_name(n) == n})


@pytest.mark.parametrize("user_id", ["", "  ", "\n"])
def test_an_empty_user_id_is_refused(user_id: str) -> None:
    with pytest.raises(ConfigError, match="at least one visible character"):
        folder_name(user_id)


def test_publish_leaves_the_old_folder_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    with publish(target) as folder:
        (folder / "state").write_text("old")
    with pytest.raises(OSError, match="disk full"), publish(target) as folder:
        _write_until_the_disk_is_full(folder)
    assert (target / "state").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def _write_until_the_disk_is_full(folder: Path) -> None:
    (folder / "state").write_text("new")
    raise OSError("disk full")


def test_a_kill_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    with publish(target) as folder:
        (folder / "state").write_text("old")
    target.rename(tmp_path / ".checkpoint.previous")
    assert (recover(target) / "state").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write to the output folder .*file.*--output_dir"):
        ensure_writable(tmp_path / "file" / "run")


def test_tensors_are_written_whole_and_readable_like_the_files_beside_them(tmp_path: Path) -> None:
    with publish(tmp_path / "folder") as folder:
        write_tensors(folder / "ours.safetensors", {"x": torch.ones(2)}, {"key": "value"})
        save_file({"x": torch.ones(2)}, folder / "theirs.safetensors")
        (folder / "plain").write_text("")
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "folder").iterdir()}
    assert len(modes) == 3
    assert len(set(modes.values())) == 1
    write_tensors(tmp_path / "alone.safetensors", {"x": torch.ones(2)})
    assert (tmp_path / "alone.safetensors").stat().st_mode == modes["plain"]
    with pytest.raises(ValueError, match="`x` is invalid"):
        write_tensors(tmp_path / "alone.safetensors", {"x": "no tensor"})  # type: ignore[dict-item]
    assert torch.equal(load_file(tmp_path / "alone.safetensors")["x"], torch.ones(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.safetensors", "folder"]
