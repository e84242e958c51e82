"""What a path without a kind leads to: a table, a folder or zip with one, or folders named by ratings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from painting import paint, zipped

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_source
from pamela_rl.errors import ConfigError, DataError

TABLE = "image,rating\na.png,4\nb.png,2\n"


def painted(folder: Path, *names: str, **tables: str) -> Path:
    for name in names:
        paint(folder / name, "red")
    for name, table in tables.items():
        (folder / f"{name}.csv").write_text(table, encoding="utf-8")
    return folder


def rows(path: Path, **settings: Any) -> list[tuple[str, str, float]]:
    rated, choices = read_source(SourceSettings(path=str(path), **settings))
    assert choices is None
    assert rated.images.open(rated.image_ids[0]).mode == "RGB"
    return list(rated.table.rows[["user_id", "image", "rating"]].itertuples(index=False, name=None))


EXPECTED = [("me", "a.png", 4), ("me", "b.png", 2)]


@pytest.mark.parametrize("inside", ["", "my images/", "release 1/my images/"])
def test_a_folder_or_zip_with_one_table_is_read_also_inside_another_folder(inside: str, tmp_path: Path) -> None:
    folder = painted(tmp_path / "top", "a.png", "b.png", ratings=TABLE)
    archive = zipped(folder, tmp_path / "images.ZIP", inside)
    for path in (folder, archive, folder / "ratings.csv", archive / inside / "ratings.csv"):
        assert rows(path) == EXPECTED
    deeper = tmp_path / "outer" / inside
    deeper.parent.mkdir(parents=True, exist_ok=True)
    if inside:
        (tmp_path / "outer" / "LICENSE.txt").write_text("Mine.", encoding="utf-8")
    folder.rename(deeper)
    assert rows(tmp_path / "outer") == EXPECTED


def test_images_may_lie_in_a_folder_beside_the_table(tmp_path: Path) -> None:
    folder = painted(tmp_path, "images/a.png", "images/b.png", ratings=TABLE)
    assert rows(folder) == [("me", "images/a.png", 4), ("me", "images/b.png", 2)]


def test_of_several_tables_the_one_with_ratings_is_read_and_two_are_refused(tmp_path: Path) -> None:
    people, empty = "user,age\nme,31\n", "image,prompt,rating\na.png,x,\nb.png,x,\n"
    folder = painted(tmp_path, "a.png", "b.png", ratings=TABLE, people=people, drawn=empty)
    (folder / "README.txt").write_text("My images; rated in May, by me.\n", encoding="utf-8")
    (folder / "~$notes.xlsx").write_bytes(b"a lock file of Excel")
    assert rows(folder) == EXPECTED
    painted(folder, again=TABLE)
    with pytest.raises(
        DataError, match=r"holds 2 tables: 'again\.csv', 'ratings\.csv'; give the path of the one to read, e\.g\."
    ):
        rows(folder)
    (folder / "again.csv").write_bytes(b"\x81")  # one that cannot be read does not count either
    assert rows(folder) == EXPECTED
    for name in ("again", "ratings", "drawn"):
        (folder / f"{name}.csv").unlink()
    painted(folder, more=people)
    with pytest.raises(DataError, match=r"holds 2 files that end as tables do, and none has columns of images and rat"):
        rows(folder)


def test_the_only_table_in_a_folder_is_refused_with_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mine\.csv has no column 'rating'; it has 'image', 'punkte'\. Name it so"):
        rows(painted(tmp_path, "a.png", mine="image,punkte\na.png,1\n"))
    (tmp_path / "mine.csv").write_bytes(b"\x81")
    with pytest.raises(DataError, match=r"mine\.csv \(it is neither UTF-8"):
        rows(tmp_path)


def test_a_table_under_unusual_names_is_found_by_the_columns_that_are_told(tmp_path: Path) -> None:
    folder = painted(tmp_path, "a.png", "b.png", meine="bild,punkte\na.png,4\nb.png,2\n", people="user,age\nme,31\n")
    assert rows(folder, columns={"image": "Bild", "rating": "Punkte"}) == EXPECTED


def test_folders_named_by_numbers_are_ratings_and_other_images_are_not_rated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = painted(tmp_path / "mine", "1/a.png", "5/b.JPG", "5/old/c.png", "unrated/d.png", "e.png", ".small/1.png")
    (folder / "5" / "notes.txt").write_text("not an image", encoding="utf-8")
    expected = [("ada", "1/a.png", 1), ("ada", "5/b.JPG", 5), ("ada", "5/old/c.png", 5)]
    assert rows(folder, user="ada") == expected
    told = capsys.readouterr().out
    assert "ratings are the names of the folders '1', '5'" in told
    assert "2 of 5 rows are not rated and are left out" in told
    assert rows(zipped(folder, tmp_path / "mine.zip", "mine/"), user="ada") == expected
    (folder / "README.txt").write_text("My images; rated in May, by me.\n", encoding="utf-8")
    (folder / "settings.json").write_text('{"seed": 1}', encoding="utf-8")
    assert rows(folder, user="ada") == expected
    paint(folder / "holiday" / "f.png", "red")
    with pytest.raises(DataError, match=r"holds folders that are no rating: 'holiday'; name all folders by numbers"):
        rows(folder)


def test_folders_named_by_words_are_ratings_also_if_there_is_only_one(tmp_path: Path) -> None:
    assert rows(painted(tmp_path / "both", "Liked/a.png", "disliked/b.png")) == [
        ("me", "Liked/a.png", 1), ("me", "disliked/b.png", 0)
    ]  # fmt: skip
    assert rows(painted(tmp_path / "one", "liked/a.png", "liked/b.png")) == [
        ("me", "liked/a.png", 1), ("me", "liked/b.png", 1)
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"holds folders of numbers and of words: '5', 'liked'; name all folders"):
        rows(painted(tmp_path / "one", "5/c.png"))


def test_a_folder_without_ratings_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither images nor a table; put a table with the columns image and"):
        rows(tmp_path)
    with pytest.raises(DataError, match=r"holds 2 images but no ratings; put a table .*pamela draw makes a folder"):
        rows(painted(tmp_path, "a.png", "b.png"))


def test_choices_beside_ratings_are_read_with_the_names_of_the_same_images(tmp_path: Path) -> None:
    folder = painted(tmp_path / "own", "a.png", "b.png", ratings="rater,image,rating\nada,a.png,4\n")
    file = painted(tmp_path, votes="annotator,left,right,winner\nben,A.PNG,b,left\n") / "votes.csv"
    rated, choices = read_source(SourceSettings(path=str(folder), choices=str(file), columns={"user_id": "rater"}))
    assert choices is not None
    assert choices.rows.iloc[0][["user_id", "image_a", "image_b", "choice"]].tolist() == ["ben", "a.png", "b.png", "a"]
    assert rated.table.user_ids == ["ada"]
    file.write_text("annotator,left,right,winner\nben,A.PNG,gone.png,left\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"votes\.csv, row 1: image_b is 'gone\.png'; there is no such image"):
        read_source(SourceSettings(path=str(folder), choices=str(file)))
    with pytest.raises(ConfigError, match=r"which holds choices, and source\.choices is .*; give one of them"):
        read_source(SourceSettings(path=str(file), images=str(folder), choices=str(file), on_bad_row="skip"))


def test_a_path_means_data_of_ones_own_and_no_path_the_world(tmp_path: Path) -> None:
    assert SourceSettings().layout == "world"
    assert SourceSettings(path="my/images").layout == "folder"
    with pytest.raises(ConfigError, match=r"source\.kind is 'world' but source\.path is 'x'; leave out source\.kind"):
        SourceSettings(kind="world", path="x")
    with pytest.raises(ConfigError, match=r"source\.user is blank"):
        SourceSettings(path="x", user=" ")


def test_a_path_inside_a_zip_is_one_that_exists(tmp_path: Path) -> None:
    archive = zipped(painted(tmp_path / "own", "a.png", "b.png", ratings=TABLE), tmp_path / "own.zip")
    SourceSettings(path=str(archive / "ratings.csv"), images=str(archive)).check_paths()
    with pytest.raises(DataError, match=r"source\.path is .*nowhere, but there is no such file or folder"):
        SourceSettings(path=os.fspath(tmp_path / "nowhere")).check_paths()
