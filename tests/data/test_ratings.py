from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pamela_rl.data.files import WRITTEN_SUFFIXES
from pamela_rl.data.ratings import SPLITS, RatingScale, RatingTable
from pamela_rl.errors import DataError, UnknownUserError

SHARES = RatingScale(0, 1)


def rows(**columns: list[object]) -> pd.DataFrame:
    usual: dict[str, list[object]] = {"user_id": ["ada", "ben", "ada"], "image": ["x", "x", "y"], "rating": [1, 5, 3]}
    return pd.DataFrame({**usual, **columns})


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_ids_ratings_and_prompts_come_back_exactly_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    ids = ["007", "NA", "null", "1e5", "nan", "None", "True", "2024-01-01", "1_0", 'ä,"b"\u2028c']
    ratings = np.concatenate([[1 / 3, 0.1, 1e-9, 0.0, 1.0], np.random.default_rng(0).random(195)])
    table = RatingTable(
        pd.DataFrame(
            {
                "user_id": ids * 20,
                "image": ids[::-1] * 20,
                "rating": ratings,
                "prompt": ['a "boat", at night', None, "NA", "a tree\nin mist"] * 50,
                "split": [*SPLITS, *SPLITS] * 20,
            }
        ),
        SHARES,
    )
    table.to_file(tmp_path / f"ratings{suffix}")
    again = RatingTable.from_file(tmp_path / f"ratings{suffix}", SHARES)
    for column in ("user_id", "image", "split", "prompt"):
        assert again.rows[column].fillna("missing").tolist() == table.rows[column].fillna("missing").tolist()
    assert again.rows["rating"].tolist() == ratings.tolist()
    assert again.user_ids == ids


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_ids_that_all_look_like_numbers_stay_text(suffix: str, tmp_path: Path) -> None:
    table = RatingTable(rows(user_id=["007", "042", "007"], image=["1.0", "1.0", "01"]))
    table.to_file(tmp_path / f"ratings{suffix}")
    again = RatingTable.from_file(tmp_path / f"ratings{suffix}")
    assert again.rows["user_id"].tolist() == ["007", "042", "007"]
    assert again.rows["image"].tolist() == ["1.0", "1.0", "01"]


def test_an_id_written_as_a_number_in_json_lines_becomes_text(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"user_id": 7, "image": "x", "rating": "4"}\n\n', encoding="utf-8")
    table = RatingTable.from_file(tmp_path / "r.jsonl")
    assert table.for_user("7").rows["rating"].tolist() == [4.0]


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_a_missing_column_is_named_with_the_columns_that_are_there(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"r{suffix}"
    RatingTable(rows()).to_file(file)
    wrong = {".csv": "user_id,picture,rating\na,x,1\n", ".jsonl": '{"user_id": "a", "picture": "x", "rating": 1}\n'}
    if suffix == ".parquet":
        rows().rename(columns={"image": "picture"}).to_parquet(file)
    else:
        file.write_text(wrong[suffix], encoding="utf-8")
    with pytest.raises(
        DataError, match=rf"r\{suffix} has no column 'image'; it has 'user_id', 'picture', 'rating'\. Name"
    ):
        RatingTable.from_file(file)


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        (
            "rating",
            [1, 7, 3],
            r"row 2: rating is 7; ratings run from 1 to 5; correct it or give the scale you used \(source\.scale\)\.$",
        ),
        ("rating", [1, 5, "good"], r"row 3: rating is 'good'; ratings run from 1 to 5"),
        ("rating", [None, 0, 9], r"row 1: rating is nan; .*\(3 rows are wrong in this way\.\)"),
        ("rating", [1, 2, float("inf")], "row 3: rating is inf"),
        ("user_id", ["a", "", "b"], r"row 2: user_id is ''; fill it in or remove the row"),
        ("image", ["a", "b", None], r"row 3: image is .*; fill it in or remove the row"),
        ("split", ["train", "train", "test"], r"row 3: split is 'test'; splits are train, val_seen"),
    ],
)
def test_a_wrong_value_is_named_with_its_row_and_what_is_allowed(
    column: str, values: list[object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        RatingTable(rows(**{column: values}))


def test_a_rating_out_of_range_in_a_file_is_named_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user_id,image,rating\na,x,1\na,y,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"r\.csv, row 2: rating is 0; ratings run from 1 to 5"):
        RatingTable.from_file(tmp_path / "r.csv")
    assert len(RatingTable.from_file(tmp_path / "r.csv", RatingScale(0, 1)).rows) == 2


@pytest.mark.parametrize("name", ["ratings.xls", "ratings", "ratings.CSV.gz"])
def test_another_file_format_is_refused_with_those_that_can_be_read_or_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"ratings are kept in \.csv, \.tsv, .*\.parquet: save the table as one of them"
    ):
        RatingTable.from_file(tmp_path / name)
    with pytest.raises(DataError, match=r"ratings are kept in \.csv, \.parquet, \.jsonl"):
        RatingTable(rows()).to_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.csv", None),
        ("empty.csv", b""),
        ("neither.csv", b"user_id,image,rating\n\xe4\x81,x,1\n"),
        ("broken.parquet", b"PAR1 and then nothing"),
        ("broken.jsonl", b'{"user_id": "a", "image"\n'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read the ratings in .*{name} \\("):
        RatingTable.from_file(tmp_path / name)


def test_a_scale_that_runs_backwards_is_refused() -> None:
    with pytest.raises(DataError, match=r"from 5 to 1; the first must be lower"):
        RatingScale(5, 1)


@pytest.mark.parametrize(
    ("scale", "resolution"),
    [
        (RatingScale(), 1.0),  # stars
        (RatingScale(1, 7), 1.0),
        (RatingScale(0, 10), 1.0),
        (RatingScale(0, 2), 1.0),
        (RatingScale(0, 1), 0.0),  # shares of one: a slider
        (RatingScale(0.5, 5), 0.0),
        (RatingScale(1, 5, 0.5), 0.5),
        (RatingScale(0, 1, 1), 1.0),  # liked or not
        (RatingScale(1, 5, 0), 0.0),
    ],
)
def test_neighbouring_ratings_are_as_far_apart_as_the_scale_says_or_looks(
    scale: RatingScale, resolution: float
) -> None:
    assert scale.resolution == resolution


@pytest.mark.parametrize("step", [-1, 4.5, float("nan")])
def test_a_step_that_fits_no_scale_is_refused(step: float) -> None:
    with pytest.raises(DataError, match=rf"step of the rating scale is {step}; use 0 for a slider, or at most 4\."):
        RatingScale(1, 5, step)


def test_a_users_rows_and_a_splits_rows_are_theirs_alone() -> None:
    table = RatingTable(rows(split=["train", "train", "val_seen"]))
    assert table.for_user("ada").rows["rating"].tolist() == [1.0, 3.0]
    assert table.split("train").rows["user_id"].tolist() == ["ada", "ben"]
    assert table.split("test_unseen").rows.empty


def test_an_unknown_user_is_answered_with_some_who_are_known() -> None:
    with pytest.raises(
        UnknownUserError, match=r"^the rating table has no ratings of user 'eve'; it has those of ada, ben"
    ):
        RatingTable(rows()).for_user("eve")


def test_an_unknown_split_or_a_table_without_splits_is_refused() -> None:
    with pytest.raises(DataError, match="no split 'test'; splits are train"):
        RatingTable(rows()).split("test")
    with pytest.raises(DataError, match="has no column 'split'; add one"):
        RatingTable(rows()).split("train")


def test_a_person_described_twice_is_refused() -> None:
    users = pd.DataFrame({"age": [30, 31]}, index=["7", 7])
    with pytest.raises(DataError, match="name user '7' more than once"):
        RatingTable(rows(), raters=users)


def test_the_callers_data_frame_is_left_as_it_was() -> None:
    mine = rows(user_id=[1, 2, 1])
    RatingTable(mine)
    assert mine["user_id"].tolist() == [1, 2, 1]
    assert mine["rating"].dtype == np.int64


def test_real_ratings_can_be_read(human_ratings: Path) -> None:
    users = pd.read_csv(human_ratings / "raters.csv", dtype={"user_id": str}).set_index("user_id")
    table = RatingTable.from_file(human_ratings / "ratings.csv", SHARES, users)
    assert len(table.rows) == 11_000
    assert len(table.user_ids) == 100
    assert table.raters is not None
    assert set(table.raters.index) == set(table.user_ids)
    with pytest.raises(DataError, match=r"ratings\.csv, row 1: rating is 0\.382; ratings run from 1 to 5"):
        RatingTable.from_file(human_ratings / "ratings.csv")
