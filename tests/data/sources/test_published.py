"""LAPIS, PARA and FLICKR-AES, in small, as their docstrings describe them."""

from __future__ import annotations

from pathlib import Path

import pytest
from painting import colour_of, paint, zipped

from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources import read_flickr_aes, read_lapis, read_para
from pamela_rl.errors import DataError

LAPIS = "image_id,image_filename,style,participant_id,rating,age,nationality,demo_gender,demo_edu,demo_colorblind,Art Interest VAIAK"


def write(file: Path, *lines: str, encoding: str = "utf-8") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding=encoding)


@pytest.fixture
def lapis(tmp_path: Path) -> Path:
    folder = tmp_path / "LAPIS"
    paint(folder / "images" / "max-ernst_red-1918.jpg", "red")
    paint(folder / "images" / "joan-miró_blue-1950.jpg", "blue")
    write(
        folder / "annotation" / "LAPIS_PIAA.csv",
        LAPIS,
        "1,max-ernst_red-1918.jpg,Symbolism,17,100,31,belgian,female,Doctorate,No,4.5",
        "2,joan-miró_blue-1950.jpg,Pop_Art,17,0,31,belgian,female,Doctorate,No,4.5",
        "1,max-ernst_red-1918.jpg,Symbolism,18,55,NA,,,,,",
        encoding="latin-1",
    )
    return folder


@pytest.mark.parametrize("archived", [False, True])
def test_lapis_is_read_with_its_slider_its_people_and_latin_letters(archived: bool, lapis: Path) -> None:
    rated = read_lapis(zipped(lapis, lapis.parent / "LAPIS.zip", "LAPIS/") if archived else lapis)
    assert rated.table.scale == RatingScale(0, 100)
    assert rated.table.rows["rating"].tolist() == [100, 0, 55]
    assert rated.table.rows["style"].tolist() == ["Symbolism", "Pop_Art", "Symbolism"]
    assert [colour_of(image) for _, image in rated.iter_images()] == ["red", "blue"]
    raters = rated.table.raters
    assert raters is not None
    assert list(raters.loc["17"]) == [31, "belgian", "female", "Doctorate", "No", 4.5]
    assert raters.loc["18"].isna().all()
    assert raters["age"].dtype == float
    assert "age" not in rated.table.rows.columns


def test_lapis_ratings_of_images_whose_names_do_not_match_can_be_left_out(lapis: Path) -> None:
    (lapis / "images" / "joan-miró_blue-1950.jpg").rename(lapis / "images" / "joan-mir?_blue-1950.jpg")
    with pytest.raises(
        DataError, match=r"LAPIS_PIAA\.csv, row 2: image_filename is 'joan-miró_blue-1950\.jpg'; there is"
    ):
        read_lapis(lapis)
    rated = read_lapis(lapis, on_bad_row="skip")
    assert [(part.count, part.first_row) for part in rated.skipped] == [(1, 2)]
    assert len(rated.table.rows) == 2


def test_an_earlier_lapis_table_is_read_by_its_name_and_its_word_for_rating(lapis: Path) -> None:
    (lapis / "annotation" / "LAPIS_PIAA.csv").unlink()
    earlier = "annotation/LAPIS_individualratings_metaANDdemodata.csv"
    write(lapis / earlier, "image_filename,participant_id,response,age", "max-ernst_red-1918.jpg,17,42,31")
    assert read_lapis(lapis, ratings=earlier).table.rows["rating"].tolist() == [42]
    with pytest.raises(DataError, match=r"holds no annotation/LAPIS_PIAA\.csv; give the folder"):
        read_lapis(lapis)


@pytest.fixture
def para(tmp_path: Path) -> Path:
    folder = tmp_path / "PARA"
    paint(folder / "imgs" / "session1" / "iaa_pub1_.jpg", "red")
    paint(folder / "imgs" / "session2" / "iaa_pub1_.jpg", "green")
    write(
        folder / "annotation" / "PARA-Images.csv",
        "sessionId,imageName,userId,aestheticScore,qualityScore,semantic",
        "session1,iaa_pub1_.jpg,104,3.5,4.0,animal",
        "session2,iaa_pub1_.jpg,104,1.0,2.0,portrait",
        "session1,iaa_pub1_.jpg,007,5.0,5.0,animal",
    )
    write(
        folder / "annotation" / "PARA-UserInfo.csv",
        "userId,age,gender,EducationalLevel,artExperience,photographyExperience,"
        "personality-E,personality-A,personality-N,personality-O,personality-C",
        "104,22-25,female,university,beginner,competent,5,6,7,8,9",
        "007,30-34,male,junior_college,expert,expert,1,2,3,4,5",
    )
    return folder


@pytest.mark.parametrize("archived", [False, True])
def test_para_images_are_told_apart_by_session_and_people_have_their_traits(archived: bool, para: Path) -> None:
    rated = read_para(zipped(para, para.parent / "PARA.zip", "PARA/") if archived else para)
    assert rated.image_ids == ["session1/iaa_pub1_.jpg", "session2/iaa_pub1_.jpg"]
    assert [colour_of(image) for _, image in rated.iter_images()] == ["red", "green"]
    assert rated.table.rows["rating"].tolist() == [3.5, 1.0, 5.0]
    assert rated.table.rows["semantic"].tolist() == ["animal", "portrait", "animal"]
    raters = rated.table.raters
    assert raters is not None
    assert list(raters.loc["007", ["age", "education", "personality_o"]]) == ["30-34", "junior_college", 4]
    assert read_para(para, score="qualityScore").table.rows["rating"].tolist() == [4.0, 2.0, 5.0]


def test_a_para_row_without_score_or_session_stops_or_is_left_out(para: Path) -> None:
    with (para / "annotation" / "PARA-Images.csv").open("a", encoding="utf-8") as file:
        file.write("session1,iaa_pub1_.jpg,104,,4.0,animal\n,iaa_pub1_.jpg,104,2,4.0,animal\n")
    with pytest.raises(DataError, match=r"PARA-Images\.csv, row 4: aestheticScore is nan; ratings run from 1 to 5"):
        read_para(para)
    rated = read_para(para, on_bad_row="skip")
    assert [(part.count, part.first_row) for part in rated.skipped] == [(1, 4), (1, 5)]
    assert "imageName is" in rated.skipped[1].reason


def test_para_without_its_people_has_ratings_all_the_same_and_a_missing_column_is_named(para: Path) -> None:
    (para / "annotation" / "PARA-UserInfo.csv").unlink()
    assert read_para(para).table.raters is None
    with pytest.raises(DataError, match=r"has no column 'beauty' for rating; it has 'sessionId'"):
        read_para(para, score="beauty")


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    paint(tmp_path / "40K" / "farm1_red.jpg", "red")
    paint(tmp_path / "40K" / "farm1_blue.jpg", "blue")
    write(
        tmp_path / "FLICKR-AES_image_labeled_by_each_worker.csv",
        "worker, imagePair, score",
        "A2BHH,farm1_red.jpg,4",
        "A1YCS, farm1_blue.jpg, 1",
        "A2BHH,farm1_blue.jpg,5",
    )
    return tmp_path


def test_flickr_aes_is_read_whatever_the_blanks_in_it(flickr: Path) -> None:
    rated = read_flickr_aes(flickr)
    assert rated.table.rows.columns.tolist() == ["user_id", "image", "rating"]
    assert rated.table.rows.values.tolist() == [
        ["A2BHH", "farm1_red.jpg", 4], ["A1YCS", "farm1_blue.jpg", 1], ["A2BHH", "farm1_blue.jpg", 5],
    ]  # fmt: skip
    assert [colour_of(image) for _, image in rated.iter_images()] == ["red", "blue"]


@pytest.mark.parametrize("inside", ["40K/", "FLICKR-AES-001/40K/", ""])
def test_flickr_pictures_may_stay_in_the_archive_they_came_in(inside: str, flickr: Path) -> None:
    archive = zipped(flickr / "40K", flickr / "FLICKR-AES-001.zip", inside)
    (flickr / "40K").rename(flickr / "moved")
    rated = read_flickr_aes(flickr, images=archive)
    assert [colour_of(image) for _, image in rated.iter_images()] == ["red", "blue"]
    with pytest.raises(DataError, match=r"holds no folder 40K or FLICKR-AES-001/40K; say where"):
        read_flickr_aes(flickr)


def test_rated_flickr_pictures_that_are_missing_stop_or_are_left_out(flickr: Path) -> None:
    (flickr / "40K" / "farm1_blue.jpg").unlink()
    with pytest.raises(DataError, match=r"worker\.csv, row 2: imagePair is 'farm1_blue\.jpg'; .*\(2 rows are wrong"):
        read_flickr_aes(flickr)
    rated = read_flickr_aes(flickr, on_bad_row="skip")
    assert [part.count for part in rated.skipped] == [2]
    assert rated.table.user_ids == ["A2BHH"]
