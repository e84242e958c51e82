from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from painting import colour_of, paint
from PIL import Image

from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources import read_hf_dataset
from pamela_rl.data.sources.opening import read_source
from pamela_rl.errors import ConfigError, DataError

COLUMNS = {"user_id": "rater", "rating": "stars"}


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("datasets", reason="needs the extra 'datasets'")


@pytest.fixture
def dataset(library: Any, tmp_path: Path) -> Any:
    """Three ratings of two pictures, which are in the rows."""
    for colour in ("red", "blue"):
        paint(tmp_path / f"{colour}.png", colour)
    content = [{"bytes": (tmp_path / f"{colour}.png").read_bytes(), "path": None} for colour in ("red", "blue", "red")]
    rows = {"rater": [7, 8, 8], "stars": [1, 2, 7], "image": content, "file": ["r", "b", "r"]}
    return library.Dataset.from_dict(rows).cast_column("image", library.Image())


@pytest.mark.parametrize("columns", [COLUMNS, {**COLUMNS, "image": "file"}], ids=["hashed", "named"])
def test_the_same_picture_in_two_rows_is_one_and_is_decoded_once(
    columns: dict[str, str], dataset: Any, opened: list[object]
) -> None:
    rated = read_hf_dataset(dataset, columns=columns, scale=RatingScale(1, 7))
    assert rated.table.rows["user_id"].tolist() == ["7", "8", "8"]
    assert rated.table.rows["rating"].tolist() == [1, 2, 7]
    assert rated.table.rows["image"].duplicated().tolist() == [False, False, True]
    assert not opened
    assert [colour_of(image) for _, image in rated.iter_images()] == ["red", "blue"]
    assert len(opened) == 2


def test_a_dataset_saved_to_disk_is_read_and_its_splits_are_ours_by_name_or_by_mapping(
    library: Any, dataset: Any, tmp_path: Path
) -> None:
    dataset.save_to_disk(tmp_path / "one")
    assert len(read_hf_dataset(tmp_path / "one", columns=COLUMNS, scale=RatingScale(1, 7)).table.rows) == 3
    library.DatasetDict({"train": dataset, "test": dataset.select([1])}).save_to_disk(tmp_path / "two")
    with pytest.raises(
        DataError, match=r"two has the splits 'train', 'test', and ours are train, .*; say which is which"
    ):
        read_hf_dataset(tmp_path / "two", columns=COLUMNS)
    splits = {"train": "train", "test": "test_seen"}
    rated = read_hf_dataset(tmp_path / "two", columns=COLUMNS, splits=splits, scale=RatingScale(1, 7))
    assert [len(rated.split(split).table.rows) for split in ("train", "test_seen")] == [3, 1]
    assert len(rated.image_ids) == 2
    with pytest.raises(DataError, match=r"'test': 'testing' is none"):
        read_hf_dataset(tmp_path / "two", columns=COLUMNS, splits={"test": "testing"})
    ours = library.DatasetDict({"train": dataset, "val_seen": dataset})
    assert len(read_hf_dataset(ours, columns=COLUMNS, scale=RatingScale(1, 7)).split("val_seen").table.rows) == 3


def test_a_bad_row_is_named_with_its_split_or_skipped(library: Any, dataset: Any) -> None:
    both = library.DatasetDict({"train": dataset.select([0]), "val_seen": dataset})
    with pytest.raises(DataError, match=r"the dataset, split 'val_seen', row 3: rating is 7; ratings run from 1 to 5"):
        read_hf_dataset(both, columns=COLUMNS)
    rated = read_hf_dataset(both, columns=COLUMNS, on_bad_row="skip")
    assert [(part.source, part.first_row) for part in rated.skipped] == [("the dataset, split 'val_seen'", 3)]


def test_a_row_without_picture_is_bad_and_a_broken_picture_is_named_when_opened(library: Any, dataset: Any) -> None:
    content = [None, {"bytes": b"<html>404</html>", "path": None}]
    rows = library.Dataset.from_dict({"rater": [7, 8], "stars": [1, 2], "image": content})
    rows = rows.cast_column("image", library.Image())
    with pytest.raises(DataError, match=r"row 1: image is .*; fill it in or remove the row"):
        read_hf_dataset(rows, columns=COLUMNS)
    rated = read_hf_dataset(rows, columns=COLUMNS, on_bad_row="skip")
    with pytest.raises(DataError, match=r"in row 2 of the dataset cannot be opened \(.*\); replace or remove it"):
        list(rated.iter_images())
    with pytest.raises(DataError, match=r"cannot open the image 'other': no row of the dataset holds this image"):
        rated.images.open("other")


def test_usual_names_of_columns_need_not_be_told(library: Any, dataset: Any) -> None:
    rated = read_hf_dataset(dataset, scale=RatingScale(1, 7))
    assert rated.table.rows[["user_id", "rating"]].values.tolist() == [["7", 1], ["8", 2], ["8", 7]]
    mine = read_hf_dataset(dataset.remove_columns("rater"), user="ada", scale=RatingScale(1, 7))
    assert mine.table.user_ids == ["ada"]


def test_labels_are_read_as_they_are_written_not_by_their_number(library: Any, dataset: Any) -> None:
    for names, ratings in ((["5", "4", "1"], [5, 4, 1]), (["4 stars", "1 star", "2 stars"], [4, 1, 2])):
        rows = dataset.remove_columns("stars").add_column("stars", [0, 1, 2])
        rows = rows.cast_column("stars", library.ClassLabel(names=names))
        assert read_hf_dataset(rows).table.rows["rating"].tolist() == ratings


def test_a_folder_that_the_library_wrote_is_recognised_and_its_split_is_a_setting(
    library: Any, dataset: Any, tmp_path: Path
) -> None:
    library.DatasetDict({"train": dataset, "test": dataset.select([1])}).save_to_disk(tmp_path / "saved")
    settings: dict[str, Any] = {"path": str(tmp_path / "saved"), "scale": [1, 7]}
    with pytest.raises(DataError, match=r"has the splits 'train', 'test'; say which to read with --source.split"):
        read_source(SourceSettings(**settings))
    for kind in (None, "huggingface"):
        rated, choices = read_source(SourceSettings(kind=kind, split="test", **settings))
        assert choices is None
        assert rated.table.rows[["user_id", "rating"]].values.tolist() == [["8", 2]]
        assert [colour_of(image) for _, image in rated.iter_images()] == ["blue"]


def test_choices_in_a_dataset_are_read(library: Any, dataset: Any, tmp_path: Path) -> None:
    red, blue = dataset["image"][0], dataset["image"][1]
    pairs = library.Dataset.from_dict({"image_a": [red], "image_b": [blue], "label": ["b"], "user": ["ada"]})
    features = library.Features({**pairs.features, "image_a": library.Image(), "image_b": library.Image()})
    pairs.cast(features).save_to_disk(tmp_path / "pairs")
    rated, choices = read_source(SourceSettings(path=str(tmp_path / "pairs")))
    assert choices is not None
    assert choices.rows[["user_id", "choice"]].values.tolist() == [["ada", "b"]]
    assert colour_of(rated.images.open(choices.rows["image_b"].iloc[0])) == "blue"


def test_pictures_may_lie_in_a_folder_that_the_dataset_names(library: Any, tmp_path: Path) -> None:
    paint(tmp_path / "red.png", "red")
    rows = library.Dataset.from_dict({"rater": ["a"], "stars": [1], "file": ["red.png"]})
    rated = read_hf_dataset(rows, columns={**COLUMNS, "image": "file"}, images=tmp_path)
    assert isinstance(rated.images.open("red.png"), Image.Image)
    with pytest.raises(
        DataError,
        match=r"has 0 columns of images in \['rater', 'stars', 'file'\]; say which one was rated with image_column=",
    ):
        read_hf_dataset(rows, columns=COLUMNS)


def test_a_hub_id_without_a_connection_and_a_streamed_dataset_are_answered_with_what_to_do(
    library: Any, dataset: Any
) -> None:
    with pytest.raises(
        DataError, match=r"cannot load the dataset 'somebody/ratings' .*or a hub id that can be reached"
    ):
        read_hf_dataset("somebody/ratings", columns=COLUMNS)
    with pytest.raises(DataError, match=r"is a IterableDataset; give a Dataset or DatasetDict that is not streamed"):
        read_hf_dataset(dataset.to_iterable_dataset(), columns=COLUMNS)


def test_without_the_library_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"needs the package 'datasets'.*pip install 'pamela_rl\[datasets\]'"):
        read_hf_dataset(pd.DataFrame(), columns=COLUMNS)
