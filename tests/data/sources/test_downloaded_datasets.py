from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from painting import colour_of, paint, zipped

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_source
from pamela_rl.data.sources.parquet_datasets import recognises
from pamela_rl.errors import DataError

COLOURS = ("red", "green", "blue")


@pytest.fixture
def encoded(tmp_path: Path) -> dict[str, bytes]:
    for colour in COLOURS:
        paint(tmp_path / "painted" / f"{colour}.png", colour)
    return {colour: (tmp_path / "painted" / f"{colour}.png").read_bytes() for colour in COLOURS}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    return tmp_path / "dataset"


def shard(file: Path, rows: dict[str, list[Any]], labels: dict[str, list[str]] | None = None, group: int = 1) -> Path:
    """Write a Parquet file in row groups of few rows, with names of labels as the hub writes them."""
    features = {name: {"names": names, "_type": "ClassLabel"} for name, names in (labels or {}).items()}
    table = pa.table(rows)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=group)
    return file


def ratings(path: Path, **settings: Any) -> pd.DataFrame:
    rated, choices = read_source(SourceSettings(path=str(path), **settings))
    assert choices is None
    colours = {name: colour_of(image) for name, image in rated.iter_images()}
    return rated.table.rows.assign(colour=rated.table.rows["image"].map(colours))


def test_a_downloaded_repository_with_images_inside_is_read_without_its_library(
    folder: Path, encoded: dict[str, bytes]
) -> None:
    (folder / "README.md").write_text("---\n---")
    parts = {"00000-of-00002-ab": (["red", "blue"], [0, 4]), "00001-of-00002-cd": (["red"], [2])}
    for part, (colours, stars) in parts.items():
        images = [{"bytes": encoded[colour], "path": f"{colour}.png"} for colour in colours]
        rows = {"image": images, "stars": stars, "rater": ["007", "8"][: len(colours)], "caption": colours}
        shard(folder / "data" / f"train-{part}.parquet", rows, {"stars": ["1", "2", "3", "4", "5"]})
    rows = ratings(folder)
    assert rows[["user_id", "rating", "prompt", "colour"]].values.tolist() == [
        ["007", 1, "red", "red"],
        ["8", 5, "blue", "blue"],
        ["007", 3, "red", "red"],
    ]
    assert rows["image"].duplicated().tolist() == [False, False, True]
    assert ratings(folder, kind="huggingface").equals(rows)


def test_labels_in_words_are_numbers_as_they_are_written(folder: Path, encoded: dict[str, bytes]) -> None:
    images = [encoded["red"], encoded["blue"]]
    file = shard(folder / "a.parquet", {"photo": images, "label": [0, 1]}, {"label": ["5 stars", "1 star"]})
    assert ratings(file)[["user_id", "rating"]].values.tolist() == [["me", 5], ["me", 1]]
    file = shard(folder / "a.parquet", {"photo": images, "label": [0, 1]}, {"label": ["disliked", "liked"]})
    assert ratings(file)["rating"].tolist() == [0, 1]


def test_splits_of_others_are_named_by_a_setting_and_ours_are_kept(folder: Path, encoded: dict[str, bytes]) -> None:
    for split, colour in (("train", "red"), ("test", "blue")):
        shard(folder / "default" / split / "0000.parquet", {"image": [encoded[colour]], "rating": [3]})
    with pytest.raises(
        DataError, match=r"has the splits 'test', 'train'; say which to read with --source.split, e.g. 'test', or sev"
    ):
        ratings(folder)
    assert ratings(folder, split="train")["colour"].tolist() == ["red"]
    assert sorted(ratings(folder, split="train+test")["colour"]) == ["blue", "red"]
    with pytest.raises(DataError, match=r"has no split 'dev'; it has 'test', 'train'. Correct source.split"):
        ratings(folder, split="dev")
    (folder / "default" / "test").rename(folder / "default" / "val_seen")
    assert ratings(folder)[["split", "colour"]].values.tolist() == [["train", "red"], ["val_seen", "blue"]]


def test_of_several_columns_of_images_one_is_said(folder: Path, encoded: dict[str, bytes]) -> None:
    rows = {name: [encoded[colour]] for name, colour in zip(("photo", "sketch", "mask"), COLOURS)}
    file = shard(folder / "a.parquet", {**rows, "score": [4]})
    with pytest.raises(
        DataError,
        match=r"has 3 columns of images, 'photo', 'sketch', 'mask'; say which .*--source.image_column 'photo'",
    ):
        ratings(file)
    assert ratings(file, image_column="sketch")["colour"].tolist() == ["green"]
    with pytest.raises(DataError, match=r"has no column 'x'; it has 'photo', 'sketch', 'mask', 'score'. Correct"):
        ratings(file, image_column="x")


def test_ids_of_a_column_are_kept_and_a_row_without_an_image_is_bad(folder: Path, encoded: dict[str, bytes]) -> None:
    rows = {"image": [encoded["red"], None], "uid": ["a", "b"], "rating": [1, 2]}
    file = shard(folder / "a.parquet", rows)
    named = SourceSettings(path=str(file), columns={"image": "uid"}, on_bad_row="skip")
    assert read_source(named)[0].image_ids == ["a"]
    with pytest.raises(DataError, match=r"a\.parquet, row 2: image is .*; fill it in or remove the row"):
        ratings(file)
    assert ratings(file, on_bad_row="skip")["colour"].tolist() == ["red"]


def test_images_of_parquet_files_are_read_in_any_order_and_after_pickling(
    folder: Path, encoded: dict[str, bytes]
) -> None:
    order = [COLOURS[number % 3] for number in range(11)]
    file = shard(
        folder / "a.parquet",
        {"image": [encoded[colour] for colour in order], "uid": [str(n) for n in range(11)], "rating": [3] * 11},
        group=3,
    )
    images = read_source(SourceSettings(path=str(file), columns={"image": "uid"}))[0].images
    for store in (images, pickle.loads(pickle.dumps(images))):
        for number in (10, 0, 5, 4, 9, 2, 10, 3):
            assert colour_of(store.open(str(number))) == order[number]


PAIRS = {
    "image_0_uid": ["r", "g", "b", "r"],
    "image_1_uid": ["g", "b", "r", "b"],
    "label_0": [1.0, 0.0, 0.5, None],
    "label_1": [0.0, 1.0, 0.5, None],
    "has_label": [True, True, True, False],
    "user_id": [12, 12, 7, 7],
    "caption": ["a", "b", "c", "d"],
    "best_image_uid": ["r", "b", "tie", ""],
    "ranking_id": [1, 2, 3, 4],
}
FIRST, SECOND = ["red", "green", "blue", "red"], ["green", "blue", "red", "blue"]


@pytest.mark.parametrize("form", ["file", "folder"])
def test_pick_a_pic_is_read_with_its_ties_and_without_rows_that_have_no_label(
    form: str, folder: Path, encoded: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    inside = {name: [encoded[c] for c in colours] for name, colours in (("jpg_0", FIRST), ("jpg_1", SECOND))}
    rows = {**PAIRS, **inside}
    if form == "file":
        path = shard(folder / "train.parquet", rows)
    else:
        path = folder
        for part in range(2):
            half = {name: values[2 * part : 2 * part + 2] for name, values in rows.items()}
            shard(folder / "data" / f"train-0000{part}-of-00002.parquet", half)
    with caplog.at_level(logging.WARNING):
        rated, choices = read_source(SourceSettings(path=str(path)))
    assert "1 rows without a label are left out" in caplog.text
    assert choices is not None
    assert choices.rows[["user_id", "image_a", "image_b", "choice", "prompt"]].values.tolist() == [
        ["12", "r", "g", "a", "a"],
        ["12", "g", "b", "b", "b"],
        ["7", "b", "r", "tie", "c"],
    ]
    assert [colour_of(rated.images.open(name)) for name in "rgb"] == list(COLOURS)
    assert rated.table.rows.empty


def test_pick_a_pic_without_images_finds_them_in_a_folder_by_id(folder: Path, tmp_path: Path) -> None:
    for name, colour in zip("rgb", COLOURS):
        paint(tmp_path / "images" / f"{name}.png", colour)
    path = shard(folder / "data" / "train.parquet", PAIRS).parents[1]
    _, choices = read_source(SourceSettings(path=str(path), images=str(tmp_path / "images")))
    assert choices is not None
    assert choices.rows["image_a"].tolist() == ["r.png", "g.png", "b.png"]
    with pytest.raises(DataError, match=r"row 1: image_a is 'r'; there is no such image in .*; add it or correct"):
        read_source(SourceSettings(path=str(path)))


def test_two_columns_of_images_and_a_choice_are_choices(folder: Path, encoded: dict[str, bytes]) -> None:
    rows = {"left_image": [encoded["red"]], "right_image": [encoded["blue"]], "preferred": ["right"], "worker": ["w"]}
    rated, choices = read_source(SourceSettings(path=str(shard(folder / "a.parquet", rows))))
    assert choices is not None
    assert choices.rows[["user_id", "choice"]].values.tolist() == [["w", "b"]]
    assert colour_of(rated.images.open(choices.rows["image_b"].iloc[0])) == "blue"


def test_a_dataset_of_argilla_is_read_from_its_repository(folder: Path, encoded: dict[str, bytes]) -> None:
    rows = {
        "id": ["1", "2"],
        "image": [{"bytes": encoded[colour], "path": None} for colour in ("red", "blue")],
        "prompt": ["x", "y"],
        "stars.responses": [[4, 1], [2]],
        "stars.responses.users": [["ada", "bob"], ["ada"]],
        "stars.responses.status": [["submitted", "discarded"], ["submitted"]],
        "stars.suggestion": [5, 5],
    }
    shard(folder / "data" / "train-00000-of-00001.parquet", rows)
    rows = ratings(folder)
    assert rows[["user_id", "rating", "prompt", "colour"]].values.tolist() == [
        ["ada", 4, "x", "red"],
        ["ada", 2, "y", "blue"],
    ]


def test_a_plain_table_is_left_to_the_usual_reader(folder: Path) -> None:
    file = shard(folder / "ratings.parquet", {"image": ["a.png"], "rating": [3]})
    assert not recognises(file)
    assert not recognises(folder)
    file.write_bytes(b"PAR1 and no more")
    assert not recognises(file)


def test_a_shard_that_is_cut_short_is_named(folder: Path, encoded: dict[str, bytes]) -> None:
    shard(folder / "data" / "train-00000-of-00002.parquet", {"image": [encoded["red"]], "rating": [3]})
    (folder / "data" / "train-00001-of-00002.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"cannot read .*train-00001-of-00002\.parquet \(.*\); download it again"):
        ratings(folder)


@pytest.fixture
def image_folder(folder: Path) -> Path:
    for path, colour in (("train/images/a", "red"), ("train/images/b", "green"), ("test/images/a", "blue")):
        paint(folder / f"{path}.png", colour)
    lines = ["file_name,rating,caption", "images/a.png,4,a rose", "images/b.png,2,a leaf"]
    (folder / "train" / "metadata.csv").write_text("\n".join(lines))
    entry = {"file_name": "images/a.png", "rating": 5, "caption": "the sea"}
    (folder / "test" / "metadata.jsonl").write_text(json.dumps(entry))
    return folder


@pytest.mark.parametrize("pack", ["folder", "zip"])
def test_an_image_folder_is_read_with_its_metadata_in_each_split(pack: str, image_folder: Path, tmp_path: Path) -> None:
    path = image_folder if pack == "folder" else zipped(image_folder, tmp_path / "all.zip")
    with pytest.raises(DataError, match=r"has the splits 'test', 'train'; say which"):
        ratings(path)
    rows = ratings(path, split="train+test")
    assert sorted(rows[["image", "rating", "prompt", "colour"]].values.tolist()) == [
        ["test/images/a.png", 5, "the sea", "blue"],
        ["train/images/a.png", 4, "a rose", "red"],
        ["train/images/b.png", 2, "a leaf", "green"],
    ]


def test_an_image_folder_can_hold_pairs(folder: Path) -> None:
    for colour in ("red", "blue"):
        paint(folder / "train" / f"{colour}.png", colour)
    lines = ["image_1_file_name,image_2_file_name,winner", "red.png,blue.png,2"]
    (folder / "train" / "metadata.csv").write_text("\n".join(lines))
    _, choices = read_source(SourceSettings(path=str(folder)))
    assert choices is not None
    assert choices.rows[["image_a", "image_b", "choice"]].values.tolist() == [["train/red.png", "train/blue.png", "b"]]


def test_an_image_folder_without_metadata_has_ratings_as_folders_in_its_splits(folder: Path) -> None:
    for path, colour in (("train/5/a.png", "red"), ("train/2/b.png", "green"), ("test/1/c.png", "blue")):
        paint(folder / path, colour)
    assert ratings(folder, split="train")[["image", "rating"]].values.tolist() == [
        ["train/2/b.png", 2],
        ["train/5/a.png", 5],
    ]


def test_metadata_without_names_of_files_says_what_it_has(folder: Path) -> None:
    (folder / "train").mkdir()
    (folder / "train" / "metadata.csv").write_text("picture of,rating\nred,4\n")
    with pytest.raises(DataError, match=r"has no column 'file_name'; it has 'picture of', 'rating'. Name the column"):
        ratings(folder)
