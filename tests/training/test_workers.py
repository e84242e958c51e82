from __future__ import annotations

import os
import sys

import pytest

from pamela_rl.errors import ConfigError
from pamela_rl.training.workers import ALONE, Worker, launched, part_from_the_others, work_with_ray


def test_without_a_launcher_there_is_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == ALONE


@pytest.mark.parametrize(("cards", "own"), [(None, "1"), ("4,6", "6"), ("", "")])
def test_a_launched_process_parts_with_a_card_of_its_own(
    cards: str | None, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if cards is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    assert launched() == Worker(3, 4)
    assert part_from_the_others() == Worker(3, 4)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == own
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} & os.environ.keys()
    assert launched() == ALONE


def test_without_ray_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed: pip install 'pamela_rl\[ray\]'"):
        work_with_ray("auto", lambda worker: None)
