from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from painting import colour_of, paint

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.label_studio import read, recognises
from pamela_rl.errors import DataError

ADDRESSES = {
    "red": "/data/upload/3/0a1b2c3d-red.png",
    "green": "/data/local-files/?d=colours%2Fgreen.png",
    "blue": "https://images.example.com/colours/blue.png?token=x",
}


def result(kind: str, value: dict[str, Any], name: str = "stars", about: str = "image") -> dict[str, Any]:
    return {"id": "x", "type": kind, "from_name": name, "to_name": about, "origin": "manual", "value": value}


def annotation(*results: dict[str, Any], user: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": 9, "completed_by": user, "result": list(results), "was_cancelled": False, "lead_time": 2.5, **more}


def task(data: dict[str, Any], *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"id": 1, "data": data, "annotations": list(annotations), "predictions": [], "project": 3}


def stars(number: int) -> dict[str, Any]:
    return result("rating", {"rating": number})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("red.png", "colours/green.png", "colours/blue.png"):
        paint(tmp_path / name, Path(name).stem)
    return tmp_path


def export(folder: Path, tasks: list[dict[str, Any]]) -> Path:
    file = folder / "project-1-at-2026-11-27.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    return file


def ratings(file: Path, **settings: Any) -> pd.DataFrame:
    assert recognises(file)
    rated, choices = read(file, SourceSettings(path=str(file), **settings))
    assert choices is None
    for name, image in rated.iter_images():
        assert Path(name).stem == colour_of(image)
    return rated.table.rows


def test_stars_of_several_users_are_read_and_uploads_and_addresses_are_found(folder: Path) -> None:
    file = export(
        folder,
        [
            task({"image": ADDRESSES["red"], "prompt": "a rose"}, annotation(stars(4)), annotation(stars(2), user=2)),
            task(
                {"image": ADDRESSES["green"], "prompt": "a leaf"},
                annotation(stars(5), user={"id": 7, "email": "ada@example.com"}),
                annotation(stars(1), was_cancelled=True),
            ),
            task({"image": ADDRESSES["blue"], "prompt": "the sea"}, annotation(stars(3)), annotation()),
            task({"image": "/data/upload/3/never.png"}),
        ],
    )
    rows = ratings(file)
    assert rows[["user_id", "image", "rating", "prompt"]].values.tolist() == [
        ["1", "red.png", 4, "a rose"],
        ["2", "red.png", 2, "a rose"],
        ["ada@example.com", "colours/green.png", 5, "a leaf"],
        ["1", "colours/blue.png", 3, "the sea"],
    ]
    assert ratings(folder).equals(rows), "the folder with the export in it is the same"


def test_the_same_answers_are_read_from_json_min(folder: Path) -> None:
    sheet = {"id": 1, "annotation_id": 9, "created_at": "2026", "updated_at": "2026", "lead_time": 2.5}
    entries = [
        {"image": ADDRESSES["red"], "prompt": "a rose", "stars": [{"rating": 4}], "annotator": 1, **sheet},
        {"image": ADDRESSES["blue"], "prompt": "the sea", "stars": [{"rating": 3}], "annotator": "ada@x.org", **sheet},
        {"image": ADDRESSES["green"], "prompt": "a leaf", "annotator": 1, **sheet},
    ]
    rows = ratings(export(folder, entries))
    assert rows[["user_id", "image", "rating", "prompt"]].values.tolist() == [
        ["1", "red.png", 4, "a rose"],
        ["ada@x.org", "colours/blue.png", 3, "the sea"],
    ]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_the_same_answers_are_read_from_tables(suffix: str, delimiter: str, folder: Path) -> None:
    names = ["annotation_id", "annotator", "created_at", "id", "image", "lead_time", "prompt", "stars", "updated_at"]
    cells = [
        [9, "1", "2026", 1, ADDRESSES["red"], 2.5, "a rose", '[{"rating": 4}]', "2026"],
        [10, "ada@x.org", "2026", 2, ADDRESSES["blue"], 2.5, "the sea", '[{"rating": 3}]', "2026"],
    ]
    with (folder / f"project{suffix}").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows([names, *cells])
    rows = ratings(folder / f"project{suffix}")
    assert rows[["user_id", "image", "rating", "prompt"]].values.tolist() == [
        ["1", "red.png", 4, "a rose"],
        ["ada@x.org", "colours/blue.png", 3, "the sea"],
    ]


@pytest.mark.parametrize(
    ("labels", "numbers", "high"),
    [(["4", "2"], [4, 2], 5), (["4 stars", "1 star"], [4, 1], 5), (["Like", "Dislike"], [1, 0], 1)],
)
@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_a_choice_of_one_label_can_be_a_rating(
    form: str, labels: list[str], numbers: list[int], high: int, folder: Path
) -> None:
    images = (ADDRESSES["red"], ADDRESSES["blue"])
    entries = [
        task({"image": image}, annotation(result("choices", {"choices": [label]}, "opinion")))
        if form == "JSON"
        else {"image": image, "opinion": label, "annotator": 1, "annotation_id": 9, "lead_time": 1.0}
        for image, label in zip(images, labels)
    ]
    file = export(folder, entries)
    assert ratings(file)["rating"].tolist() == numbers
    assert read(file, SourceSettings(path=str(file)))[0].table.scale.high == high


def pairs(
    folder: Path, answers: list[str], about: str = "img-1,img-2", names: tuple[str, str] = ("image1", "image2")
) -> Path:
    data = dict(zip(names, (ADDRESSES["red"], ADDRESSES["blue"])))
    given = [annotation(result("pairwise", {"selected": answer}, "pw", about)) for answer in answers]
    return export(folder, [task({"caption": "a sky", **data}, *given)])


def test_choices_between_two_images_are_read(folder: Path) -> None:
    file = pairs(folder, ["left", "right"])
    rated, choices = read(file, SourceSettings(path=str(file)))
    assert choices is not None
    assert choices.rows[["user_id", "image_a", "image_b", "choice", "prompt"]].values.tolist() == [
        ["1", "red.png", "colours/blue.png", "a", "a sky"],
        ["1", "red.png", "colours/blue.png", "b", "a sky"],
    ]
    assert rated.table.rows.empty
    assert colour_of(rated.images.open("colours/blue.png")) == "blue"


def test_the_left_image_is_the_first_that_the_question_names(folder: Path) -> None:
    for about, left in (("image2,image1", "colours/blue.png"), ("image1,image2", "red.png")):
        _, choices = read(pairs(folder, ["left"], about), SourceSettings(path="x"))
        assert choices is not None
        assert choices.rows["image_a"].tolist() == [left]


def test_a_pair_without_an_order_is_refused_until_it_is_told(folder: Path) -> None:
    file = pairs(folder, ["left"], "x,y", names=("sunny", "cloudy"))
    with pytest.raises(DataError, match=r"shows the images 'sunny', 'cloudy' and does not say which is on the left"):
        read(file, SourceSettings(path=str(file)))
    _, choices = read(file, SourceSettings(path=str(file), columns={"image_a": "cloudy", "image_b": "sunny"}))
    assert choices is not None
    assert choices.rows[["image_a", "image_b", "choice"]].values.tolist() == [["colours/blue.png", "red.png", "a"]]


def test_labels_that_name_the_images_of_a_pair_are_choices(folder: Path) -> None:
    data = {"image_1": ADDRESSES["red"], "image_2": ADDRESSES["blue"]}
    answers = ["image_2", "1", "tie"]
    given = [annotation(result("choices", {"choices": [answer]}, "better", "image_1")) for answer in answers]
    _, choices = read(export(folder, [task(data, *given)]), SourceSettings(path="x"))
    assert choices is not None
    assert choices.rows["choice"].tolist() == ["b", "a", "tie"]


def test_of_several_questions_the_one_to_take_must_be_said(folder: Path) -> None:
    given = annotation(
        stars(4), result("rating", {"rating": 1}, "sharpness"), result("textarea", {"text": ["hm"]}, "why")
    )
    file = export(folder, [task({"image": ADDRESSES["red"]}, given)])
    with pytest.raises(
        DataError,
        match=r"asks 2 questions that could be the rating: 'stars', 'sharpness'; say which with --source.columns.rating 'st",
    ):
        ratings(file)
    assert ratings(file, columns={"rating": "sharpness"})["rating"].tolist() == [1]


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        (
            [task({"image": ADDRESSES["red"]}, annotation(result("rectanglelabels", {"x": 1}, "box")))],
            "holds answers of the kind 'rectanglelabels', and those of the kind 'rating', .* are read; in Label Studio, ask for a "
            "Rating, Choices or Pairwise and export as JSON",
        ),
        (
            [task({"image": ADDRESSES["red"]}, annotation(result("choices", {"choices": ["cat"]}, "animal")))],
            "holds no rating, .*: it holds 'animal', answered 'cat'; in Label Studio",
        ),
        (
            [task({"text": "a story"}, annotation(stars(4)))],
            r"shows 0 images a task, and ratings of one image or choices between two are read; in Label Studio",
        ),
        (
            [task({f"image{n}": ADDRESSES["red"] for n in range(3)}, annotation(stars(4)))],
            r"shows 3 images a task, 'image0', 'image1', 'image2'; say which one was rated with --source.columns.image",
        ),
        (
            [task({"image": "/data/upload/3/0a1b2c3d-reed.png"}, annotation(stars(4)))],
            r"row 1: image is 'upload/3/reed.png'.*; there is no such image in .*",
        ),
        ([task({"image": ADDRESSES["red"]})], "holds no answers, and those of the kind 'rating'"),
        ([{"id": 1, "data": "x", "annotations": []}], "task 1: it has no object 'data'"),
    ],
    ids=["boxes", "labels", "no image", "three images", "missing image", "not annotated", "no data"],
)
def test_what_is_not_read_says_what_was_seen_and_what_to_do(
    tasks: list[dict[str, Any]], sentence: str, folder: Path
) -> None:
    file = export(folder, tasks)
    with pytest.raises(DataError, match=sentence):
        read(file, SourceSettings(path=str(file)))


@pytest.mark.parametrize(
    "content", ['{"a": 1}', "[1, 2]", "[]", "[{", "", '[{"image": "a.png", "rating": 4}]', "\xff\xfe"]
)
def test_other_files_are_not_taken_for_an_export(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content, encoding="latin-1")
    assert not recognises(tmp_path / "x.json")
    assert not recognises(tmp_path / "absent.json")


def test_an_export_that_is_cut_short_is_refused(folder: Path) -> None:
    file = export(folder, [task({"image": ADDRESSES["red"]}, annotation(stars(4)))] * 2)
    file.write_text(file.read_text()[:-50])
    assert recognises(file)
    with pytest.raises(DataError, match=r"cannot read .*\.json \(.*\); export it from Label Studio again"):
        read(file, SourceSettings(path=str(file)))
