from __future__ import annotations

import logging
from pathlib import Path

import pytest
from painting import paint

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_source
from pamela_rl.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, of which one is cut short and one is none."""
    for name in ("red", "green", "blue"):
        paint(tmp_path / f"{name}.png", name)
    content = (tmp_path / "green.png").read_bytes()
    (tmp_path / "green.png").write_bytes(content[: len(content) - 30])
    (tmp_path / "page.jpg").write_bytes(b"<html>404</html>")
    return tmp_path


def settings(folder: Path, *lines: str, on_bad_row: str = "stop") -> SourceSettings:
    (folder / "table.csv").write_text("\n".join(lines))
    return SourceSettings(path=str(folder / "table.csv"), on_bad_row=on_bad_row)  # type: ignore[arg-type]


RATINGS = ("user_id,image,rating", "a,red.png,1", "a,green.png,2", "b,green.png,3", "b,page.jpg,4", "b,blue.png,5")
CHOICES = ("user_id,image_a,image_b,choice", "a,red.png,blue.png,a", "a,blue.png,green.png,b", "a,page.jpg,red.png,a")


def test_the_first_row_with_a_broken_image_is_named(folder: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"table\.csv, row 2: image is 'green\.png'; it cannot be opened \(.*truncated.*\); replace it or remove the "
        r"row\. \(2 rows are wrong in this way\.\)",
    ):
        read_source(settings(folder, *RATINGS))
    with pytest.raises(DataError, match=r"row 3: image_a is 'page\.jpg'; it cannot be opened \(it is a web page"):
        read_source(settings(folder, *CHOICES[:2], CHOICES[1], CHOICES[3]))


def test_rows_with_broken_images_are_skipped_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rated, choices = read_source(settings(folder, *RATINGS, on_bad_row="skip"))
    assert choices is None
    assert rated.table.rows[["image", "rating"]].values.tolist() == [["red.png", 1], ["blue.png", 5]]
    assert [(part.count, part.first_row) for part in rated.skipped] == [(2, 2), (1, 4)]
    assert "2 rows skipped, the first is row 2: image is 'green.png'; it cannot be opened" in caplog.text
    assert (
        "1 row skipped, the first is row 4: image is 'page.jpg'; it cannot be opened (it is a web page" in caplog.text
    )
    _, choices = read_source(settings(folder, *CHOICES, on_bad_row="skip"))
    assert choices is not None
    assert choices.rows[["image_a", "image_b"]].values.tolist() == [["red.png", "blue.png"]]


def test_every_image_is_decoded_once_however_often_it_was_rated(folder: Path, opened: list[object]) -> None:
    good = [line for line in RATINGS if "green" not in line and "page" not in line]
    read_source(settings(folder, *good, "c,red.png,3", "d,red.png,2"))
    assert len(opened) == 2


def test_a_table_of_broken_images_alone_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv holds no row whose images can be opened; see above"):
        read_source(settings(folder, RATINGS[0], RATINGS[2], RATINGS[4], on_bad_row="skip"))
