from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from painting import colour_of, paint, zipped

from pamela_rl.data.ratings import RatingScale, RatingTable
from pamela_rl.data.sources import read_folder
from pamela_rl.errors import ConfigError, DataError

HEADER = "user_id,image,rating"
GOOD = ["ada,red.png,1", "ben,green.png,5", "ada,red.png,3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "green", "blue"):
        paint(tmp_path / f"{colour}.png", colour)
    return tmp_path


def csv(folder: Path, *lines: str, header: str = HEADER) -> Path:
    file = folder / "ratings.csv"
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return file


def test_nothing_is_decoded_before_it_is_asked_for_and_then_every_picture_once(
    folder: Path, opened: list[object]
) -> None:
    rated = read_folder(csv(folder, *GOOD))
    assert not opened
    iter_images = rated.iter_images()
    assert not opened
    assert [(image, colour_of(pil_image)) for image, pil_image in iter_images] == [
        ("red.png", "red"),
        ("green.png", "green"),
    ]
    assert len(opened) == 2


def test_somebody_who_rated_a_picture_twice_has_two_rows(folder: Path) -> None:
    rated = read_folder(csv(folder, *GOOD))
    assert rated.for_user("ada").table.rows["rating"].tolist() == [1, 3]
    assert rated.skipped == ()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_written_table_is_read_back_with_every_column_in_any_format(suffix: str, folder: Path) -> None:
    rows = pd.DataFrame(
        {
            "user_id": ["007", "NA", "007"],
            "image": ["red.png", "blue.png", "green.png"],
            "rating": [0.25, 1 / 3, 1.0],
            "prompt": ["a tree, at night", None, "a\nboat"],
            "split": ["train", "val_seen", "train"],
            "seconds": [1.5, 2.5, 3.5],
        }
    )
    RatingTable(rows, RatingScale(0, 1)).to_file(folder / f"r{suffix}")
    table = read_folder(folder / f"r{suffix}", scale=RatingScale(0, 1)).table
    pd.testing.assert_frame_equal(table.rows, rows, check_dtype=False)
    assert table.split("train").user_ids == ["007"]


def test_columns_under_other_names_are_found_and_a_namesake_is_kept_apart(folder: Path) -> None:
    file = csv(folder, "w1,red.png,4,9", header="worker,file,stars,rating")
    rated = read_folder(file, columns={"user_id": "worker", "image": "file", "rating": "stars"})
    assert rated.table.rows[["user_id", "image", "rating", "rating in file"]].values.tolist() == [
        ["w1", "red.png", 4, 9]
    ]


def test_a_mapped_column_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"ratings\.csv has no column 'worker' for user_id; it has 'user_id', 'image'"):
        read_folder(csv(folder, *GOOD), columns={"user_id": "worker"})
    with pytest.raises(DataError, match=r"has no column 'rating'; it has .* with --source\.columns\.rating NAME"):
        read_folder(csv(folder, "ada,red.png,1", header="user_id,image,punkte"))


@pytest.mark.parametrize(
    ("low", "high", "ratings", "beyond"), [(0, 1, (0, 0.5, 1), 1.01), (1, 5, (1, 2.5, 5), 5.5), (1, 7, (1, 4, 7), 8),
                                           (1, 10, (1, 6, 10), 11), (0, 100, (0, 33, 100), -1)]
)  # fmt: skip
def test_any_scale_takes_its_ends_and_nothing_beyond(
    low: float, high: float, ratings: tuple[float, ...], beyond: float, folder: Path
) -> None:
    lines = [f"ada,red.png,{rating}" for rating in ratings]
    table = read_folder(csv(folder, *lines), scale=RatingScale(low, high)).table
    assert table.rows["rating"].tolist() == list(ratings)
    with pytest.raises(DataError, match=rf"row 4: rating is {beyond}; ratings run from {low} to {high}"):
        read_folder(csv(folder, *lines, f"ada,red.png,{beyond}"), scale=RatingScale(low, high))


BAD = {
    ",red.png,3": r"row 4: user_id is .*; fill it in or remove the row",
    "ben,,3": r"row 4: image is .*; fill it in or remove the row",
    "ben,red.png,6": r"row 4: rating is 6; ratings run from 1 to 5",
    "ben,red.png,good": r"row 4: rating is 'good'; ratings run from 1 to 5",
    "ben,black.png,3": r"row 4: image is 'black\.png'; there is no such image in .*; add it or correct the path",
    "ben,../../../etc/passwd,3": r"row 4: image is '\.\./\.\./\.\./etc/passwd'; images lie inside .* leads out of it",
    "ben,/etc/passwd,3": r"row 4: image is '/etc/passwd'; images lie inside .* and this path leads out of it",
    "ben,red.png,3,surplus": r"\(row 4: it has 4 cells and the header has 3; a cell with a comma",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_stops_the_reading_with_file_and_row(bad: str, folder: Path) -> None:
    with pytest.raises(DataError, match=r"ratings\.csv.*" + BAD[bad]):
        read_folder(csv(folder, *GOOD, bad))


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_is_skipped_when_asked_and_the_log_tells(
    bad: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rated = read_folder(csv(folder, *GOOD, bad, "eve,blue.png,2"), on_bad_row="skip")
    assert rated.table.user_ids == ["ada", "ben", "eve"]
    assert len(rated.table.rows) == 4
    (skipped,) = rated.skipped
    assert (skipped.count, skipped.first_row) == (1, 4)
    assert [str(skipped)] == [record.message for record in caplog.records]
    assert str(skipped).startswith(f"{folder / 'ratings.csv'}: 1 row skipped, the first is row 4: ")


def test_every_kind_of_bad_row_is_counted_once_and_the_rest_keep_their_row_numbers(folder: Path) -> None:
    lines = [*GOOD, "x,y,z,surplus", "ada,red.png,7", "ada,black.png,7", "ada,black.png,3", "ada,black.png,2", *GOOD]
    rated = read_folder(csv(folder, *lines), on_bad_row="skip")
    assert [(part.count, part.first_row) for part in rated.skipped] == [(1, 4), (2, 5), (2, 7)]
    assert len(rated.table.rows) == 6
    assert rated.table.rows.index.tolist() == [0, 1, 2, 8, 9, 10]


def test_ids_stay_what_they_were_when_rows_without_an_id_are_skipped(folder: Path) -> None:
    rows = pd.DataFrame({"user_id": [7.0, None, 8.0], "image": ["red.png"] * 3, "rating": [1, 2, 3]})
    rows.to_parquet(folder / "r.parquet")
    assert read_folder(folder / "r.parquet", on_bad_row="skip").table.user_ids == ["7", "8"]


@pytest.mark.parametrize("line", ['{"user_id": "a", "image"', "3", '["a", "b"]'])
def test_a_line_that_is_no_json_object_is_named_or_skipped(line: str, folder: Path) -> None:
    good = '{"user_id": "a", "image": "red.png", "rating": 1}'
    file = folder / "r.jsonl"
    file.write_text(f"{good}\n\n{line}\n{good}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"r\.jsonl \(row 2: .* is no JSON"):
        read_folder(file)
    rated = read_folder(file, on_bad_row="skip")
    assert rated.table.rows.index.tolist() == [0, 2]
    assert [part.first_row for part in rated.skipped] == [2]


def test_empty_lines_are_no_rows_and_move_no_row_number(folder: Path) -> None:
    file = csv(folder, GOOD[0], "", "   ", "ada,red.png,1,surplus", GOOD[1], "", GOOD[2])
    with pytest.raises(DataError, match=r"ratings\.csv \(row 2: it has 4 cells"):
        read_folder(file)
    assert read_folder(file, on_bad_row="skip").table.rows.index.tolist() == [0, 2, 3]


def test_lines_of_json_may_have_different_keys(folder: Path) -> None:
    lines = [
        '{"user_id": "a", "image": "red.png", "rating": 1}',
        '{"prompt": "p", "rating": 2, "image": "red.png", "user_id": "b"}',
    ]
    (folder / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = read_folder(folder / "r.jsonl").table.rows
    assert rows["user_id"].tolist() == ["a", "b"]
    assert rows["prompt"].fillna("none").tolist() == ["none", "p"]


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_column_and_ids_keep_their_zeros(name: str, folder: Path) -> None:
    text = {
        "r.csv": "worker,picture,rating\n007,red.png,1\n008,red.png,2\n009,red.png,2,surplus",
        "r.jsonl": '{"worker": "007", "picture": "red.png", "rating": 1}\n{"worker": "008", "picture": "red.png", "rating": 2}\n3',
    }[name]
    (folder / name).write_text(text, encoding="utf-8-sig")
    rated = read_folder(folder / name, columns={"user_id": "worker", "image": "picture"}, on_bad_row="skip")
    assert rated.table.user_ids == ["007", "008"]
    assert [part.first_row for part in rated.skipped] == [3]


def test_ids_of_any_kind_become_text_and_one_that_is_missing_is_still_missing(folder: Path) -> None:
    for users in ([1, "a", None], [1.0, 2.0, None]):
        rows = pd.DataFrame({"user_id": users, "image": ["red.png"] * 3, "rating": [1, 2, 3]})
        rows.astype({"user_id": object}).to_json(folder / "r.jsonl", orient="records", lines=True)
        with pytest.raises(DataError, match=r"row 3: user_id is .*; fill it in or remove the row"):
            read_folder(folder / "r.jsonl")


def test_a_header_that_is_too_short_moves_no_cell_into_another_column(folder: Path) -> None:
    lines = [f"{line},8" for line in GOOD]
    for on_bad_row in ("stop", "skip"):
        with pytest.raises(DataError, match=r"row 1: it has 4 cells and the header has 3"):
            read_folder(csv(folder, *lines), on_bad_row=on_bad_row)


def test_nothing_left_is_an_error_and_so_is_an_empty_table(folder: Path) -> None:
    with pytest.raises(DataError, match="holds no rating that is right; see above"):
        read_folder(csv(folder, "ada,red.png,9"), on_bad_row="skip")
    with pytest.raises(DataError, match=r"holds no rating\.$"):
        read_folder(csv(folder))


def test_only_stop_and_skip_are_taken(folder: Path) -> None:
    with pytest.raises(ConfigError, match="on_bad_row is 'ignore'; use 'stop' or 'skip'"):
        read_folder(csv(folder, *GOOD), on_bad_row="ignore")  # type: ignore[arg-type]


def test_pictures_may_lie_elsewhere_in_a_folder_or_a_zip(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    table = elsewhere / "ratings.csv"
    table.write_text("\n".join([HEADER, *GOOD]), encoding="utf-8")
    for images in (folder, zipped(folder, elsewhere / "pictures.zip")):
        rated = read_folder(table, images)
        assert [colour_of(pil_image) for _, pil_image in rated.iter_images()] == ["red", "green"]
    deeper = zipped(folder, elsewhere / "deeper.zip", "release/")
    assert len(read_folder(table, deeper / "release").image_ids) == 2
    for images in (elsewhere / "nowhere", deeper / "nowhere", elsewhere / "nowhere.zip" / "release"):
        with pytest.raises(DataError, match=rf"there is no folder or zip {images}"):
            read_folder(table, images)


def test_people_are_read_with_the_users_column_of_the_ratings(folder: Path) -> None:
    (folder / "people.csv").write_text("worker,age\n007,31\n104,\n", encoding="utf-8")
    file = csv(folder, "007,red.png,1", header="worker,image,rating")
    raters = read_folder(file, columns={"user_id": "worker"}, raters=folder / "people.csv").table.raters
    assert raters is not None
    assert raters.loc["007", "age"] == 31
    (folder / "people.csv").write_text("whom,age\n007,31\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"people\.csv has no column 'worker'; it has 'whom', 'age'"):
        read_folder(file, columns={"user_id": "worker"}, raters=folder / "people.csv")


def test_real_ratings_by_a_hundred_people_are_read_with_what_they_report(
    human_ratings: Path, opened: list[object]
) -> None:
    rated = read_folder(human_ratings / "ratings.csv", scale=RatingScale(0, 1), raters=human_ratings / "raters.csv")
    rows = rated.table.rows
    assert (len(rows), len(rated.table.user_ids), len(rated.image_ids)) == (11_000, 100, 55)
    assert sorted(rows["block"].unique()) == [1, 2]
    repeats = rows.groupby(["user_id", "image"]).size()
    assert (repeats.min(), repeats.max(), repeats.sum()) == (2, 2, 11_000)
    assert rated.table.raters is not None
    assert set(rated.table.raters.index) == set(rated.table.user_ids)
    assert set(rated.table.raters.columns) == {"age", "education", "gender", "nationality", "likes_dogs"}
    assert not opened
    sizes = {pil_image.size for _, pil_image in rated.iter_images()}
    assert (sizes, len(opened)) == ({(128, 128)}, 55)
    assert read_folder(human_ratings / "ratings.csv").table.scale == RatingScale(0, 1)


def test_ratings_come_out_as_they_went_in(folder: Path) -> None:
    ratings = np.random.default_rng(0).random(200)
    file = csv(folder, *(f"ada,red.png,{rating!r}" for rating in ratings.tolist()))
    assert read_folder(file, scale=RatingScale(0, 1)).table.rows["rating"].tolist() == ratings.tolist()
