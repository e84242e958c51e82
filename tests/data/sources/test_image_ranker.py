from __future__ import annotations

import logging
from pathlib import Path

import pytest
from painting import colour_of, paint

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.image_ranker import read, recognises
from pamela_rl.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "green", "blue"):
        paint(tmp_path / f"{colour}.png", colour)
    return tmp_path


def written(folder: Path, *lines: str) -> Path:
    (folder / "export.csv").write_bytes("\r\n".join([*lines, ""]).encode())
    return folder / "export.csv"


def test_comparisons_are_choices_and_removed_images_are_none(folder: Path) -> None:
    file = written(
        folder,
        "Winner,Loser",
        "C:/ranked/red.png,C:/ranked/blue.png",
        "None,C:/ranked/gone.png",
        "C:/ranked/green.png,C:/ranked/red.png",
    )
    assert recognises(file)
    rated, choices = read(file, SourceSettings(path=str(file), user="ada"))
    assert choices is not None
    assert choices.rows[["user_id", "image_a", "image_b", "choice"]].values.tolist() == [
        ["ada", "red.png", "blue.png", "a"],
        ["ada", "green.png", "red.png", "a"],
    ]
    assert colour_of(rated.images.open("green.png")) == "green"


def test_a_ranking_is_read_as_ratings_over_the_range_of_its_scores(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(
        folder,
        "Image,ELO,Uncertainty,Upvotes,Downvotes",
        "/home/x/red.png,4.25,6.1,3,0",
        "/home/x/green.png,0.0,8.33,0,0",
        "/home/x/blue.png,-3.75,6.2,0,3",
    )
    assert recognises(file)
    with caplog.at_level(logging.WARNING):
        rated, choices = read(file, SourceSettings(path=str(file)))
    assert choices is None
    assert rated.table.rows[["user_id", "image", "rating"]].values.tolist() == [
        ["me", "red.png", 4.25],
        ["me", "green.png", 0.0],
        ["me", "blue.png", -3.75],
    ]
    scale = rated.table.scale
    assert (scale.low, scale.high, scale.resolution) == (-3.75, 4.25, 0)
    assert "scores from -3.75 to 4.25 are read as ratings; 'Export comparisons' tells more" in caplog.text


def test_a_ranking_without_a_comparison_is_refused(folder: Path) -> None:
    file = written(folder, "Image,ELO,Uncertainty,Upvotes,Downvotes", "red.png,0,8.33,0,0", "blue.png,0,8.33,0,0")
    with pytest.raises(DataError, match="gives every image the score 0; compare images first"):
        read(file, SourceSettings(path=str(file)))


@pytest.mark.parametrize("header", ["image,rating", "", "winner,loser,user"])
def test_other_tables_are_left_to_the_usual_reader(header: str, folder: Path) -> None:
    assert not recognises(written(folder, header))
    assert not recognises(folder)
