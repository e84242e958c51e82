from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from painting import colour_of, paint, zipped

from pamela_rl.data.ratings import SPLITS
from pamela_rl.data.sources import read_pamela
from pamela_rl.errors import DataError

IMAGES = {"red": ("landscape", None, "photorealism"), "green": ("abstract", "Minimalism", "art")}


def entry(user: str, colour: str, score: object, **changes: object) -> dict[str, Any]:
    group, style, kind = IMAGES[colour]
    return {
        "participant_id": user,
        "image_id": list(IMAGES).index(colour),
        "image_path": f"./images/{colour}.png",
        "original_score": score,
        "image_metadata": {"prompt": f"a {colour} field", "group": group, "style": style, "type": kind},
        "user_demographics": {"age": 31, "age_binned": "30-39", "gender": "female", "nationality": "belgian"},
        **changes,
    }


@pytest.fixture
def pamela(tmp_path: Path) -> Path:
    """The published layout, in small: two known people, one who is in the unseen splits alone."""
    folder = tmp_path / "PAMELA"
    for colour in IMAGES:
        paint(folder / "images" / f"{colour}.png", colour)
    for split in SPLITS:
        users = ("P3",) if "unseen" in split else ("P1", "P2")
        write(folder, split, [entry(user, colour, 1 + len(user + colour) % 5) for user in users for colour in IMAGES])
    return folder


def write(folder: Path, split: str, entries: object) -> None:
    file = folder / "annotations" / f"pamela_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(entries), encoding="utf-8")


@pytest.fixture(params=["the folder", "the folder above", "the archive", "an archive without the folder"])
def place(request: pytest.FixtureRequest, pamela: Path) -> Path:
    archive = pamela.parent / "PAMELA.zip"
    return {
        "the folder": lambda: pamela,
        "the folder above": lambda: pamela.parent,
        "the archive": lambda: zipped(pamela, archive, "PAMELA/"),
        "an archive without the folder": lambda: zipped(pamela, archive),
    }[request.param]()


def test_the_folder_and_the_archive_give_the_same_and_unpack_and_decode_nothing(
    place: Path, opened: list[object]
) -> None:
    before = sorted(place.parent.rglob("*"))
    rated = read_pamela(place)
    rows = rated.table.rows
    assert [len(rated.split(split).table.rows) for split in SPLITS] == [4, 4, 2, 4, 2]
    assert rated.split("test_unseen").table.user_ids == ["P3"]
    assert rated.image_ids == ["images/red.png", "images/green.png"]
    assert list(rows.loc[1, ["user_id", "rating", "prompt", "group", "style", "type", "image_id"]]) == [
        "P1", 3.0, "a green field", "abstract", "Minimalism", "art", 1,
    ]  # fmt: skip
    assert rows["style"].isna().sum() == len(rows) / 2
    assert not [column for column in rows.columns if "age" in column.split("_")]  # that is of people, not of ratings
    raters = rated.table.raters
    assert raters is not None
    assert raters.loc["P3"].to_dict() == {
        "age": 31, "age_binned": "30-39", "gender": "female", "nationality": "belgian",
    }  # fmt: skip
    assert not opened
    assert [colour_of(image) for _, image in rated.iter_images()] == ["red", "green"]
    assert len(opened) == 2
    assert sorted(place.parent.rglob("*")) == before


def test_a_bad_entry_is_named_with_its_file_and_row_inside_the_archive(pamela: Path) -> None:
    write(pamela, "val_seen", [entry("P1", "red", 1), entry("P2", "red", 6)])
    archive = zipped(pamela, pamela.parent / "PAMELA.zip", "PAMELA/")
    sentence = r"PAMELA\.zip/PAMELA/annotations/pamela_val_seen\.json, row 2: original_score is 6; ratings run from 1"
    with pytest.raises(DataError, match=sentence):
        read_pamela(archive)
    (skipped,) = read_pamela(archive, on_bad_row="skip").skipped
    assert (skipped.count, skipped.first_row) == (1, 2)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("no entry at all", r"pamela_train\.json, row 2: original_score is nan"),
        ({"original_score": 2, "image_path": "./images/red.png"}, r"row 2: participant_id is .*; fill it in or remove"),
        (entry("P1", "red", 2, image_path=None), r"row 2: image_path is .*; fill it in or remove the row"),
        (
            entry("P1", "red", 2, image_path="./images/gone.png"),
            r"row 2: image_path is 'images/gone\.png'; there is no",
        ),
        (entry("P1", "red", 2, image_path="../../etc/passwd"), r"row 2: image_path is .*passwd'; images lie inside"),
    ],
)
def test_an_entry_that_lacks_something_is_named(broken: object, sentence: str, pamela: Path) -> None:
    write(pamela, "train", [entry("P1", "red", 1), broken])
    with pytest.raises(DataError, match=sentence):
        read_pamela(zipped(pamela, pamela.parent / "PAMELA.zip", "PAMELA/"))


def test_an_entry_without_metadata_or_demographics_is_a_rating_all_the_same(pamela: Path) -> None:
    write(pamela, "train", [entry("P9", "red", 1, image_metadata=None, user_demographics=None)])
    rated = read_pamela(pamela, splits=["train"])
    assert rated.table.rows["prompt"].isna().all()
    assert rated.table.raters is not None
    assert rated.table.raters.loc["P9"].isna().all()


def test_somebody_who_reports_two_things_is_told_of_in_the_log(pamela: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = {"age": 32, "age_binned": "30-39", "gender": None, "nationality": "belgian"}
    write(pamela, "train", [entry("P1", "red", 1, user_demographics=other), entry("P1", "red", 1)])
    with caplog.at_level(logging.WARNING):
        raters = read_pamela(pamela, splits=["train"]).table.raters
    assert raters is not None
    assert list(raters.loc["P1", ["age", "gender"]]) == [32, "female"]
    assert [record.message for record in caplog.records] == [
        f"{pamela}: 1 people give more than one age; the first is taken."
    ]


def test_a_split_that_is_missing_is_said_and_may_be_left_out(pamela: Path) -> None:
    (pamela / "annotations" / "pamela_val_seen.json").unlink()
    with pytest.raises(DataError, match=r"there is no .*pamela_val_seen\.json; add it, or name the splits"):
        read_pamela(pamela)
    assert len(read_pamela(pamela, splits=["train", "test_seen"]).table.rows) == 8
    with pytest.raises(DataError, match=r"splits are train, .*; \['test'\] was asked for"):
        read_pamela(pamela, splits=["test"])


def test_what_is_not_the_dataset_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no annotations/pamela_train\.json; give the folder that holds it"):
        read_pamela(tmp_path)
    (tmp_path / "PAMELA.zip").write_bytes(b"PK, and then the download stopped")
    with pytest.raises(DataError, match=r"cannot open the archive .*PAMELA\.zip \(File is not a zip file\)"):
        read_pamela(tmp_path / "PAMELA.zip")
    with pytest.raises(DataError, match=r"there is no folder or zip .*absent\.zip"):
        read_pamela(tmp_path / "absent.zip")
    (tmp_path / "annotations").mkdir()
    for content, sentence in (("[{", r"pamela_train\.json \(.*\); download it again"), ("{}", "is no list of ratings")):
        (tmp_path / "annotations" / "pamela_train.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=sentence):
            read_pamela(tmp_path)


def test_without_a_connection_the_hub_id_is_answered_with_what_to_do() -> None:
    with pytest.raises(DataError, match=r"no folder or archive bethgelab/PAMELA here, and PAMELA\.zip of that hub id"):
        read_pamela()


def test_the_hub_is_asked_for_the_archive_which_is_then_read_in_place(
    pamela: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, requested = zipped(pamela, pamela.parent / "PAMELA.zip", "PAMELA/"), []

    def download(*args: str, **kwargs: str) -> str:
        requested.append((args, kwargs))
        return str(archive)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert len(read_pamela().table.rows) == 16
    assert requested == [(("bethgelab/PAMELA", "PAMELA.zip"), {"repo_type": "dataset"})]


def test_an_archive_of_pictures_can_be_sent_to_another_process(pamela: Path) -> None:
    images = read_pamela(zipped(pamela, pamela.parent / "PAMELA.zip", "PAMELA/")).images
    assert colour_of(pickle.loads(pickle.dumps(images)).open("images/green.png")) == "green"
