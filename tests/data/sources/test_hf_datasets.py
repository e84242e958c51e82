from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from painting import colour_of, paint
from PIL import Image

from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources import read_hf_dataset
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
    with pytest.raises(DataError, match=r"the dataset, split 'val_seen', row 3: stars is 7; ratings run from 1 to 5"):
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
    with pytest.raises(DataError, match=r"cannot open the image 'other': no row of the dataset holds this picture"):
        rated.images.open("other")


def test_pictures_may_lie_in_a_folder_that_the_dataset_names(library: Any, tmp_path: Path) -> None:
    paint(tmp_path / "red.png", "red")
    rows = library.Dataset.from_dict({"rater": ["a"], "stars": [1], "file": ["red.png"]})
    rated = read_hf_dataset(rows, columns={**COLUMNS, "image": "file"}, images=tmp_path)
    assert isinstance(rated.images.open("red.png"), Image.Image)
    with pytest.raises(
        DataError, match=r"has no column 'image'; it has \['rater', 'stars', 'file'\]: say image_column="
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
