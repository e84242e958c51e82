from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pamela_rl.errors import DataError
from pamela_rl.evaluation.blind_test import make_pages, read_back
from pamela_rl.evaluation.compare import UserComparison
from pamela_rl.evaluation.gallery import save_gallery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with two people, three arms, five prompts."""
    prompts = tuple("abcde")
    people = [
        UserComparison(
            user, prompts, (1,) * 5, {arm: torch.rand(5, 3, 8, 8) for arm in ("base", "own", "other")}, {}, {}
        )
        for user in ("rater-1", "Eve B.")
    ]
    save_gallery(tmp_path / "run", people)
    return tmp_path


def answer_all(folder: Path, answer: str) -> list[Path]:
    (folder / "sent").mkdir()
    files = []
    for path in sorted((folder / "blind" / "keys").glob("*.json")):
        key = json.loads(path.read_text(encoding="utf-8"))
        choices = dict.fromkeys(key["pairs"], answer)
        files.append(folder / "sent" / f"choices-{path.stem}.json")
        files[-1].write_text(json.dumps({"page": key["page"], "choices": choices}), encoding="utf-8")
    return files


def test_pages_are_made_answered_and_read_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pages(folder / "run", folder / "blind")
    said = capsys.readouterr().out
    assert "15 pairs, 2 of them twice" in said
    assert f"--output_dir {folder / 'blind'} --choices {folder / 'blind'}/choices" in said
    assert len(list((folder / "blind" / "pages").iterdir())) == 2
    answer_all(folder, "tie")
    read_back(folder / "blind", folder / "sent")
    said = capsys.readouterr().out
    assert "30 choices of 2 people" in said
    assert "1000 [" in said
    assert "95 % interval over people and prompts" in said
    facts = json.loads((folder / "blind" / "blind_test.json").read_text(encoding="utf-8"))
    assert facts["overall"]["wins"]["own"]["base"]["estimate"] == pytest.approx(0.5)
    assert set(facts["users"]) == {"rater-1", "Eve B."}


def test_a_list_of_files_reads_like_their_folder(folder: Path) -> None:
    make_pages(folder / "run", folder / "blind")
    files = answer_all(folder, "left")
    results = []
    for choices in (folder / "sent", files):
        read_back(folder / "blind", choices)
        results.append((folder / "blind" / "blind_test.json").read_text(encoding="utf-8"))
    assert results[0] == results[1]


def test_pages_that_somebody_may_be_answering_are_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pages(folder / "run", folder / "blind")
    before = {path: path.read_bytes() for path in (folder / "blind").rglob("*.*")}
    make_pages(folder / "run", folder / "blind", num_pairs=3)
    assert capsys.readouterr().out.count("made earlier and kept") == 2
    assert {path: path.read_bytes() for path in (folder / "blind").rglob("*.*")} == before


def test_people_see_their_pairs_in_different_orders(folder: Path) -> None:
    make_pages(folder / "run", folder / "blind", repeated=0.0)
    keys = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "blind" / "keys").iterdir()]
    shown = [[(p["prompt"], p["left"], p["right"]) for p in key["pairs"].values()] for key in keys]
    assert shown[0] != shown[1]
    assert [len(pairs) for pairs in shown] == [15, 15]


def test_choices_that_are_not_there_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"there is no choices-\*\.json in .*run; put the files there"):
        read_back(folder / "blind", folder / "run")
    with pytest.raises(DataError, match="choices is an empty list"):
        read_back(folder / "blind", [])
