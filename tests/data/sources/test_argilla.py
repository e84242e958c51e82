from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from painting import colour_of, paint

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.argilla import annotations_of, read, recognises
from pamela_rl.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "blue"):
        paint(tmp_path / f"{colour}.png", colour)
    return tmp_path


def inline(folder: Path, colour: str) -> str:
    return "data:image/png;base64," + base64.b64encode((folder / f"{colour}.png").read_bytes()).decode()


def record(fields: dict[str, Any], **responses: list[tuple[str, Any]]) -> dict[str, Any]:
    given = {name: [{"value": value, "user_id": user} for user, value in pairs] for name, pairs in responses.items()}
    nested = {"fields": fields, "metadata": {}, "suggestions": {}, "responses": given, "vectors": {}}
    return {"id": "1", **nested, "status": "completed", "_server_id": "2"}


def export(folder: Path, records: list[dict[str, Any]]) -> Path:
    (folder / "records.json").write_text(json.dumps(records))
    return folder / "records.json"


def test_ratings_and_the_images_that_are_written_into_the_records_are_read(folder: Path) -> None:
    fields = [{"image": inline(folder, colour), "prompt": colour} for colour in ("red", "blue")]
    file = export(
        folder,
        [record(fields[0], stars=[("ada", 4), ("bob", 2)]), record(fields[1], stars=[("ada", 5)]), record(fields[1])],
    )
    assert recognises(file)
    rated, choices = read(file, SourceSettings(path=str(file)))
    assert choices is None
    assert rated.table.rows[["user_id", "rating", "prompt"]].values.tolist() == [
        ["ada", 4, "red"],
        ["bob", 2, "red"],
        ["ada", 5, "blue"],
    ]
    assert [colour_of(image) for _, image in rated.iter_images()] == ["red", "blue"]
    assert len({rated.images.digest(name) for name in rated.image_ids}) == 2


def test_a_dataset_that_was_written_to_disk_is_a_folder(folder: Path) -> None:
    (folder / ".argilla").mkdir()
    (folder / ".argilla" / "settings.json").write_text("{}")
    export(
        folder,
        [record({"image": "red.png"}, liked=[("ada", "yes")]), record({"image": "blue.png"}, liked=[("ada", "no")])],
    )
    assert recognises(folder)
    rated, _ = read(folder, SourceSettings(path=str(folder)))
    assert rated.table.rows[["image", "rating"]].values.tolist() == [["red.png", 1], ["blue.png", 0]]


def test_labels_that_name_one_of_two_images_are_choices(folder: Path) -> None:
    fields = {"image_a": inline(folder, "red"), "image_b": inline(folder, "blue"), "prompt": "a sky"}
    file = export(folder, [record(fields, better=[("ada", "image_b"), ("bob", "tie")])])
    rated, choices = read(file, SourceSettings(path=str(file)))
    assert choices is not None
    assert choices.rows[["user_id", "choice", "prompt"]].values.tolist() == [
        ["ada", "b", "a sky"],
        ["bob", "tie", "a sky"],
    ]
    shown = [colour_of(rated.images.open(choices.rows[side].iloc[0])) for side in ("image_a", "image_b")]
    assert shown == ["red", "blue"]


FLAT = {
    "id": "1",
    "image": "red.png",
    "stars.responses": [4, 1, 2],
    "stars.responses.users": ["ada", "bob", "eve"],
    "stars.responses.status": ["submitted", "discarded", "draft"],
    "stars.suggestion": 5,
    "stars.suggestion.score": 0.9,
}
VERSION_1 = [
    {"user_id": "ada", "value": 4, "status": "submitted"},
    {"user_id": "bob", "value": 1, "status": "discarded"},
]
SERVER_1 = [
    {"user_id": "ada", "values": {"stars": {"value": 4}}, "status": "submitted"},
    {"user_id": "bob", "values": {"stars": {"value": 1}}, "status": "discarded"},
]


@pytest.mark.parametrize(
    "record",
    [
        FLAT,
        {"image": "red.png", "stars": VERSION_1, "stars-suggestion": 5},
        {"image": "red.png", "stars": {name: [answer[name] for answer in VERSION_1] for name in VERSION_1[0]}},
        {"fields": {"image": "red.png"}, "responses": SERVER_1},
    ],
    ids=["flat", "version 1", "version 1 in columns", "version 1 nested"],
)
def test_only_what_users_submitted_counts_in_every_form(record: dict[str, Any]) -> None:
    annotations = annotations_of("x", [record])
    assert annotations.questions == ("stars",)
    kept = [{name: row[name] for name in ("image", "stars", "user_id")} for row in annotations.rows]
    assert kept == [{"image": "red.png", "stars": 4, "user_id": "ada"}]
    assert not any("suggestion" in name or "responses" in name for row in annotations.rows for name in row)


def test_what_is_not_read_says_what_was_seen_and_what_to_do(folder: Path) -> None:
    file = export(folder, [record({"image": "red.png"}, tags=[("ada", ["cat", "dog"])])])
    with pytest.raises(DataError, match=r"holds no rating, .*: it holds 'tags', answered .*; in Argilla, ask a rating"):
        read(file, SourceSettings(path=str(file)))
    whole = inline(folder, "red")
    damaged = whole[:40] + "!!!!" + whole[40:]
    file = export(folder, [record({"image": damaged}, stars=[("ada", 4)])])
    rated, _ = read(file, SourceSettings(path=str(file)))
    with pytest.raises(DataError, match=r"in .*records\.json cannot be opened \(its base64 is damaged"):
        list(rated.iter_images())
