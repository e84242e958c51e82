"""Work in a process beside this one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pamela_rl.world.background import in_background


def note(path: Path, other_than: int) -> None:
    """Write down who did it, and with how many threads; the process ``other_than`` alone may."""
    if os.getpid() != other_than:
        path.write_text(f"{os.getpid()} {torch.get_num_threads()}")


def fail_elsewhere(path: Path, here: int) -> None:
    if os.getpid() != here:
        raise OSError("the other process is not well")
    path.write_text("done here")


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_another_process_does_it_with_half_of_the_threads(threads: int, tmp_path: Path) -> None:
    wait = in_background(note, tmp_path / "note", os.getpid())
    assert torch.get_num_threads() == 1
    wait()
    assert torch.get_num_threads() == threads
    who, with_how_many = (tmp_path / "note").read_text().split()
    assert int(who) != os.getpid()
    assert with_how_many == "1"


def test_what_the_other_process_could_not_do_is_done_here(threads: int, tmp_path: Path) -> None:
    in_background(fail_elsewhere, tmp_path / "note", os.getpid())()
    assert (tmp_path / "note").read_text() == "done here"


def test_one_core_does_one_thing_after_the_other(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    in_background(fail_elsewhere, tmp_path / "note", os.getpid())()
    torch.set_num_threads(before)
    assert (tmp_path / "note").read_text() == "done here"
