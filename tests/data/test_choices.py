from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from pamela_rl.data.choices import ChoiceTable
from pamela_rl.errors import ConfigError, DataError, UnknownUserError


def rows(**columns: list[object]) -> pd.DataFrame:
    usual: dict[str, list[object]] = {
        "user_id": ["ada", "ben", "ada"],
        "image_a": ["x", "x", "y"],
        "image_b": ["y", "z", "x"],
        "choice": ["a", "b", "tie"],
    }
    return pd.DataFrame({**usual, **columns})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_choices_come_back_exactly_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    table = ChoiceTable(rows(user_id=["007", "NA", "a,b"], prompt=["a tree", None, "NA"], split=["train"] * 3))
    table.to_file(tmp_path / f"choices{suffix}")
    again = ChoiceTable.from_file(tmp_path / f"choices{suffix}")
    for column in table.rows.columns:
        assert again.rows[column].fillna("missing").tolist() == table.rows[column].fillna("missing").tolist()
    assert again.user_ids == ["007", "NA", "a,b"]


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        (
            "choice",
            ["a", "b", "c"],
            r"row 3: choice is 'c'; choices are 'a', 'b' or 'tie'; correct it or remove the row\.$",
        ),
        ("choice", ["A", "b", "left"], r"row 1: choice is 'A'; .* \(2 rows are wrong in this way\.\)"),
        ("choice", ["a", None, "b"], r"row 2: choice is .*; choices are 'a', 'b' or 'tie'"),
        ("choice", [1, 2, 1], r"row 1: choice is 1; choices are"),
        ("user_id", ["a", " ", "b"], r"row 2: user_id is ' '; fill it in or remove the row"),
        ("image_a", ["a", "b", None], r"row 3: image_a is .*; fill it in or remove the row"),
        ("image_b", ["y", "x", "x"], r"row 2: image_b is 'x'; that is image_a too; a choice is between two images"),
        ("split", ["train", "test", "train"], r"row 2: split is 'test'; splits are train, val_seen"),
    ],
)
def test_a_wrong_value_is_named_with_its_row_and_what_is_allowed(
    column: str, values: list[object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        ChoiceTable(rows(**{column: values}))


def test_a_missing_column_and_an_unreadable_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column 'choice'; it has 'user_id', 'image_a', 'image_b'\. Name"):
        ChoiceTable(rows().drop(columns="choice"))
    with pytest.raises(DataError, match=r"choices are kept in \.csv, \.tsv, .*: save the table as one of them"):
        ChoiceTable.from_file(tmp_path / "choices.xls")
    with pytest.raises(DataError, match=r"cannot read the choices in .*absent\.csv"):
        ChoiceTable.from_file(tmp_path / "absent.csv")


def test_bad_rows_stop_or_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "choices.csv"
    lines = ["user_id,image_a,image_b,choice", "ada,x,y,a", "ada,x,y,a,b", "ben,x,x,b", "ben,x,y,tie", "eve,x,y,?"]
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"choices\.csv \(row 2: it has 5 cells and the header has 4; a cell with a comma"
    ):
        ChoiceTable.from_file(file)
    with caplog.at_level(logging.WARNING):
        table, skipped = ChoiceTable.screened(file)
    assert table.rows["user_id"].tolist() == ["ada", "ben"]
    assert [(part.count, part.first_row) for part in skipped] == [(1, 2), (1, 5), (1, 3)]
    assert [record.message for record in caplog.records] == [str(part) for part in skipped]
    with pytest.raises(ConfigError, match="on_bad_row is 'drop'"):
        ChoiceTable.screened(file, "drop")  # type: ignore[arg-type]


def test_repeats_and_ties_are_kept_until_ties_are_left_out() -> None:
    table = ChoiceTable(pd.concat([rows(), rows()], ignore_index=True))
    assert len(table.rows) == 6
    assert table.without_ties().rows["choice"].tolist() == ["a", "b", "a", "b"]


def test_a_users_rows_and_a_splits_rows_are_theirs_alone() -> None:
    users = pd.DataFrame({"age": [30]}, index=["ada"])
    table = ChoiceTable(rows(split=["train", "val_seen", "train"]), users)
    assert table.for_user("ada").rows["choice"].tolist() == ["a", "tie"]
    assert table.split("val_seen").user_ids == ["ben"]
    assert table.split("val_seen").raters is not None
    with pytest.raises(UnknownUserError, match="no choices of user 'eve'; it has those of ada, ben"):
        table.for_user("eve")
    with pytest.raises(DataError, match="name user 'ada' more than once"):
        ChoiceTable(rows(), pd.DataFrame({"age": [1, 2]}, index=["ada", "ada"]))
