"""Tables as people have them: each is read right, or refused in one sentence with the remedy."""

from __future__ import annotations

import io
import re
import unicodedata
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
from painting import paint

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_source
from pamela_rl.errors import DataError

IMAGES = ("a.png", "b.png", "c.png", "ümlaut.png")


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in IMAGES:
        paint(folder / name, "red")
    (folder / "sub").mkdir()
    paint(folder / "sub" / "deep.png", "red")
    return folder


def excel(*rows: list[Any], formats: dict[str, str] | None = None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for cell, number_format in (formats or {}).items():
        book.active[cell].number_format = number_format
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def two_sheets() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["image", "rating"])
    book.create_sheet("people").append(["name", "age"])
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def parquet(index: str, **columns: list[Any]) -> bytes:
    stream = io.BytesIO()
    pd.DataFrame(columns).set_index(index).to_parquet(stream)
    return stream.getvalue()


def read(painted: Path, folder: Path, name: str, data: bytes | str, **settings: Any) -> Any:
    file = folder / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_source(SourceSettings(path=str(file), images=str(painted), **settings))


ME_AB = [("me", "a.png", 4.0), ("me", "b.png", 2.0)]
READ: dict[str, tuple[str, bytes | str, list[tuple[str, str, float]]]] = {
    "semicolons and decimal commas": ("r.csv", "image;rating\na.png;3,5\nb.png;2\n", [("me", "a.png", 3.5), ("me", "b.png", 2)]),
    "commas and quoted decimal commas": ("r.csv", 'image,rating\na.png,"3,5"\nb.png,"2,0"\n', [("me", "a.png", 3.5), ("me", "b.png", 2)]),
    "Excel's sep line": ("r.csv", "sep=;\r\nimage;rating\r\na.png;4\r\nb.png;2\r\n", ME_AB),
    "Excel's Unicode text": ("r.txt", "image\trating\na.png\t4\nümlaut.png\t2\n".encode("utf-16"), [("me", "a.png", 4), ("me", "ümlaut.png", 2)]),
    "UTF-16 without a mark": ("r.csv", "image,rating\na.png,4\nb.png,2\n".encode("utf-16-be"), ME_AB),
    "UTF-16 without a mark, the other way round": ("r.csv", "image,rating\na.png,4\nb.png,2\n".encode("utf-16-le"), ME_AB),
    "blanks before quotation marks": ("r.csv", 'image, prompt, rating\na.png, "a boat, at sea", 4\nb.png, "x", 2\n', ME_AB),
    "a mark of UTF-8": ("r.csv", "\ufeffimage,rating\na.png,4\nb.png,2\n", ME_AB),
    "cp1252": ("r.csv", "image;rating;note\nümlaut.png;4;€ 5\n".encode("cp1252"), [("me", "ümlaut.png", 4)]),
    "bars and an upper-case ending": ("R.CSV", "image|rating\na.png|4\nb.png|2\n", ME_AB),
    "tabs in a .tsv with commas in its header": ("r.tsv", "image\tRating (1, 2, 3, 4, 5)\tnotes, if any\na.png\t4\tx\nb.png\t2\ty, z\n", ME_AB),
    "line ends of old Macs": ("r.csv", "image,rating\ra.png,4\rb.png,2\r", ME_AB),
    "blank rows, blank columns and blanks everywhere": ("r.csv", "\n Image , RATING ,,\n\n a.png , 4 ,,\n,,,\n   \n b.png ,2,,\n", ME_AB),
    "cells after the last column that are empty": ("r.csv", "image;rating\na.png;4;;\nb.png;2\n", ME_AB),
    "pandas' row numbers": ("r.csv", ",image,rating\n0,a.png,4\n1,b.png,2\n", ME_AB),
    "quoted prompts with commas, quotes and line breaks": ("r.csv", 'image,prompt,rating\na.png,"a ""red"" boat,\nat sea",4\nb.png,"x",2\n', ME_AB),
    "ids with zeros and blanks": ("r.csv", "worker id,file name,stars\n007, a.png,4\n007 ,b.png ,2\n", [("007", "a.png", 4), ("007", "b.png", 2)]),
    "ids in two Unicode forms": ("r.csv", f"rater,photo,score\n{unicodedata.normalize('NFD', 'Zoë')},a.png,4\nZoë,b.png,2\n", [("Zoë", "a.png", 4), ("Zoë", "b.png", 2)]),
    "some rows not rated": ("r.csv", "image,prompt,rating\na.png,x,4\nb.png,x,2\nc.png,x,\nc.png,x,n/a\n", ME_AB),
    "from nought to ten": ("r.csv", "image,rating\na.png,8\nb.png,0\nc.png,10\n", [("me", "a.png", 8), ("me", "b.png", 0), ("me", "c.png", 10)]),
    "thumbs": ("r.csv", "img,vote\na.png,👍\nb.png,👎\n", [("me", "a.png", 1), ("me", "b.png", 0)]),
    "like and dislike": ("r.csv", "picture,label\na.png,Like\nb.png,dislike\n", [("me", "a.png", 1), ("me", "b.png", 0)]),
    "true and false in JSON": ("r.json", '[{"image": "a.png", "liked": true}, {"image": "b.png", "liked": false}]', [("me", "a.png", 1), ("me", "b.png", 0)]),
    "minus one and one": ("r.csv", "image,rating\na.png,1\nb.png,-1\n", [("me", "a.png", 1), ("me", "b.png", -1)]),
    "favourites only": ("r.csv", "image,rating\na.png,5\nb.png,5\n", [("me", "a.png", 5), ("me", "b.png", 5)]),
    "an object of names in JSON": ("R.JSON", '{"a.png": 4, "b.png": 2}', ME_AB),
    "pandas' JSON": ("r.json", '{"image": {"0": "a.png", "1": "b.png"}, "rating": {"0": 4, "1": 2}}', ME_AB),
    "a list inside an object, with numbers as text": ("r.json", '{"version": 2, "ratings": [{"image": "a.png", "rating": "4"}, {"image": "b.png", "rating": "2,0"}]}', ME_AB),
    "JSON lines in a .json, with a mark": ("r.json", '\ufeff{"image": "a.png", "rating": 4}\n\n{"image": "b.png", "rating": 2}\n', ME_AB),
    "a .ndjson": ("r.ndjson", '{"image": "a.png", "rating": 4}\n{"image": "b.png", "rating": 2, "extra": [1]}\n', ME_AB),
    "Excel with ids shown as 007": ("R.XLSX", excel([], ["User", "Image", "Rating"], [7, "a.png", 4], [None, None, None], [7, "b.png", 2.0], formats={"A3": "000", "A5": "000"}), [("007", "a.png", 4), ("007", "b.png", 2)]),
    "Parquet with an index and categories": ("r.PARQUET", parquet("image", image=["a.png", "b.png"], rating=pd.Categorical(["4", "2"])), ME_AB),
    "names with backslashes, another case, no ending or a folder too many": (
        "r.csv", "image,rating\nC:\\Users\\me\\SUB\\Deep.PNG,4\na,2\n./B.png,1\n/home/me/images/c.png,5\n" + unicodedata.normalize("NFD", "ümlaut") + ".png,3\n",
        [("me", "sub/deep.png", 4), ("me", "a.png", 2), ("me", "b.png", 1), ("me", "c.png", 5), ("me", "ümlaut.png", 3)],
    ),
    "a name without its folder": ("r.csv", "image,rating\ndeep.png,4\n", [("me", "sub/deep.png", 4)]),
    "a column of users that is called so, and others that are not": ("r.csv", "user,rater age,image,rating\nada,31,a.png,4\nben,9,b.png,2\n", [("ada", "a.png", 4), ("ben", "b.png", 2)]),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_a_messy_table_is_read_right(case: str, painted: Path, tmp_path: Path) -> None:
    name, data, expected = READ[case]
    rated, choices = read(painted, tmp_path, name, data)
    assert choices is None
    assert list(rated.table.rows[["user_id", "image", "rating"]].itertuples(index=False, name=None)) == expected
    assert all(rated.images.missing_reason(image) is None for image in rated.image_ids)


REFUSED: dict[str, tuple[str, bytes | str, str]] = {
    "a single six": ("r.csv", "image,rating\na.png,6\nb.png,2\nc.png,3\n", r"row 1: rating is 6; ratings run from 1 to 5; correct it or give the scale you used \(source\.scale\)\.$"),
    "nought among stars": ("r.csv", "image,rating\na.png,0\nb.png,5\nc.png,3\n", r"row 1: rating is 0; ratings run from 1 to 5; .*source\.scale"),
    "sevens, of 7 or of 10": ("r.csv", "image,rating\na.png,7\nb.png,7\nc.png,3\n", r"row 1: rating is 7; .*source\.scale"),
    "decimal commas without quotes": ("r.csv", "image,rating\na.png,3,5\nb.png,2,0\n", r"row 1: it has 3 cells and the header has 2; a cell with a comma in it, e\.g\. a decimal comma, needs quotation marks"),
    "an open quotation mark": ("r.csv", 'image,prompt,rating\na.png,x,1\nb.png,"a boat,2\nc.png,x,3\n', r"a quotation mark is opened in row 2 and not closed\); correct"),
    "an open quotation mark after a line that is too long": ("r.csv", 'image,rating\na.png,1\nb.png,2,3\n"c.png,3\nd.png,3\n', r"a quotation mark is opened in row 3 and not closed"),
    "two columns that could be the rating": ("r.csv", "image,score,stars\na.png,1,2\n", r"2 columns that could be rating: 'score', 'stars'; say which with --source\.columns\.rating 'score', or rename it to 'rating'"),
    "the same column twice": ("r.csv", "image,rating,rating\na.png,1,2\n", r"2 columns are called 'rating'; rename or remove all but one"),
    "no header": ("r.csv", "a.png,4\nb.png,2\n", r"has no column 'image'; it has 'a\.png', '4'\. Name it so in the first row"),
    "a rating that Excel took for a date": ("r.xlsx", excel(["image", "rating"], ["a.png", pd.Timestamp(2026, 5, 3)], ["b.png", 2]), r"row 1: rating is '2026-05-03'; ratings run from 1 to 5"),
    "two sheets": ("r.xlsx", two_sheets(), r"the sheets 'Sheet', 'people' hold something; keep one sheet, or save it as CSV"),
    "no workbook at all": ("r.xlsx", "image,rating\na.png,4\n", r"it is no Excel workbook: File is not a zip file\); correct or replace"),
    "an old workbook": ("r.xls", b"\xd0\xcf\x11\xe0", r"ends in '\.xls'; ratings are kept in \.csv, .*\.xlsx.*: save the table as one of them"),
    "nothing rated": ("r.csv", "image,prompt,rating\na.png,x,\nb.png,y,\n", r"holds no rating yet: all 2 of its rows have an empty one; fill in ratings"),
    "words and numbers": ("r.csv", "image,rating\na.png,like\nb.png,2\n", r"row 1: rating is 'like'; ratings run from 1 to 5"),
    "a share of a scale": ("r.csv", "image,rating\na.png,4/5\nb.png,2/5\n", r"row 1: rating is '4/5'; ratings run from 1 to 5"),
    "a misspelled image": ("r.csv", "image,rating\na.png,4\nulmaut.png,2\n", r"row 2: image is 'ulmaut\.png'; there is no such image in .* \(did you mean 'ümlaut\.png'\?\)"),
    "two names for one file": ("r.csv", "image,rating\nold/a.png,4\nnew/a.png,2\n", r"row 1: image is 'old/a\.png'; there is no such image in .* \(did you mean 'a\.png'\?\)\. \(2 rows"),
    "an address out of the folder": ("r.csv", "image,rating\n../../etc/passwd,4\n", r"row 1: image is '\.\./\.\./etc/passwd'; images lie inside"),
    "broken JSON": ("r.json", '[{"image": "a.png", "rating": 4},', r"cannot read the ratings in .*r\.json \(.*\); correct or replace it"),
    "JSON of another form": ("r.json", '{"a": [1], "b": {"c": 2}}', r"an object with the keys 'a', 'b'; give a list of objects, each with an image and its rating"),
    "an empty file": ("r.csv", "", r"cannot read the ratings in .*r\.csv \(it is empty\); correct or replace it"),
    "neither UTF-8 nor cp1252": ("r.csv", b"image,rating\n\x81\xe4.png,4\n", r"it is neither UTF-8 nor UTF-16 nor cp1252; save it as UTF-8"),
    "0 and 1 between a and b": ("r.csv", "image_a,image_b,choice\na.png,b.png,1\nb.png,c.png,0\n", r"writes choices as 0 and 1, and its columns 'image_a' and 'image_b' do not say .*; write a or b"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_read_is_refused_in_a_sentence_with_the_remedy(
    case: str, painted: Path, tmp_path: Path
) -> None:
    name, data, sentence = REFUSED[case]
    with pytest.raises(DataError, match=sentence) as raised:
        read(painted, tmp_path, name, data)
    assert "\n" not in str(raised.value)


PAIRS = [("me", "a.png", "b.png", "a"), ("me", "b.png", "c.png", "b")]
CHOSEN: dict[str, tuple[str, list[tuple[str, str, str, str]]]] = {
    "our columns": ("user_id,image_a,image_b,choice\nada,a.png,b.png,a\nada,b.png,c.png,tie\n", [("ada", "a.png", "b.png", "a"), ("ada", "b.png", "c.png", "tie")]),
    "left and right": ("left;right;winner\na.png;b.png;Left\nb.png;c.png;RIGHT\n", PAIRS),
    "numbered columns from 0": ("image_0,image_1,label\na.png,b.png,0\nb.png,c.png,1\n", PAIRS),
    "numbered columns from 1": ("image 1,image 2,preference\nA.PNG,b,1\nb.png,c.png,2\n", PAIRS),
    "names of columns": ("Picture A,Picture B,choice\na.png,b.png,picture_a\nb.png,c.png,Picture B\n", PAIRS),
    "names of images": ("img1,img2,winner\na.png,b.png,a.png\nb.png,c.png,c.png\n", PAIRS),
    "winners and losers": ("winner,loser\na.png,b.png\nb.png,c.png\n", [PAIRS[0], ("me", "b.png", "c.png", "a")]),
    "unanswered and undecided": ("image_a,image_b,choice\na.png,b.png,A\na.png,c.png,\nb.png,c.png,equal\n", [PAIRS[0], ("me", "b.png", "c.png", "tie")]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOSEN)
def test_a_table_of_choices_is_known_by_its_columns(case: str, painted: Path, tmp_path: Path) -> None:
    table, expected = CHOSEN[case]
    rated, choices = read(painted, tmp_path, "votes.csv", table)
    assert rated.table.rows.empty
    rows = choices.rows[["user_id", "image_a", "image_b", "choice"]]
    assert list(rows.itertuples(index=False, name=None)) == expected


def test_what_was_guessed_is_told_in_a_line_and_can_be_overridden(
    painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "file,score,caption\na.png,8,x\nb.png,9,y\nc.png,2,y\n"
    rated, _ = read(painted, tmp_path, "r.csv", table)
    told = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^.*r\.csv: ", "", line) for line in told] == [
        "image is the column 'file', rating is the column 'score', prompt is the column 'caption', there is no column of "
        "users, so all is by 'me'; source.columns and source.user override.",
        "ratings are taken to run from 1 to 10; source.scale overrides.",
    ]
    assert (rated.table.scale.low, rated.table.scale.high) == (1, 10)
    again, _ = read(
        painted, tmp_path, "r.csv", table, user="ada", scale=[0.0, 20.0], columns={"prompt": "", "rating": "Score"}
    )
    assert again.table.user_ids == ["ada"]
    assert again.table.scale.high == 20
    assert "prompt" not in again.table.rows.columns
    with pytest.raises(
        DataError, match=r"source\.user is 'ada', but .*r\.csv has a column of users, 'rater'; leave out"
    ):
        read(painted, tmp_path, "r.csv", "rater,image,rating\nada,a.png,1\n", user="ada")


def test_ids_that_differ_only_in_how_they_are_written_are_kept_apart_with_a_warning(
    painted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rated, _ = read(painted, tmp_path, "r.csv", "user,image,rating\nAda,a.png,1\nada,b.png,2\nben,b.png,3\n")
    assert rated.table.user_ids == ["Ada", "ada", "ben"]
    (record,) = caplog.records
    assert "the users 'Ada' and 'ada' differ only in how they are written and count as two people" in record.message


def test_bad_rows_of_any_kind_of_table_are_skipped_when_asked(painted: Path, tmp_path: Path) -> None:
    for name, table in {
        "r.csv": "image;rating\na.png;6\nb.png;2\nc.png;3;x\n;4\nc.png;good\nb.png;1,5\n",
        "r.json": '[{"image": "a.png", "rating": 6}, {"image": "b.png", "rating": 2}, 3, {"rating": 4}, '
        '{"image": "c.png", "rating": "good"}, {"image": "b.png", "rating": "1,5"}]',
    }.items():
        rated, _ = read(painted, tmp_path, name, table, on_bad_row="skip")
        assert rated.table.rows["rating"].tolist() == [2, 1.5]
        assert sorted(skipped.first_row for skipped in rated.skipped) == [1, 3, 4]
        assert sum(skipped.count for skipped in rated.skipped) == 4
