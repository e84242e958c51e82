from __future__ import annotations

import unicodedata
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pamela_rl.data.image_names import FoundImages, ImageNames
from pamela_rl.data.images import open_files

NFD = unicodedata.normalize("NFD", "café.jpg")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.png", "a.png"),
        ("A.PNG", "a.png"),
        (" ./a.png ", "a.png"),
        ("a", "a.png"),
        ("café.jpg", NFD),
        ("set1\\b.png", "set1/b.png"),
        ("b", None),  # of two folders
        ("images/set1/b.png", "set1/b.png"),
        ("C:\\Users\\me\\images\\set2\\B", "set2/b.png"),
        ("/home/me/c.d.webp", "deep/er/c.d.webp"),
        ("er/c.d", "deep/er/c.d.webp"),
        ("a.jpg", None),  # another ending is another file
        ("set3/b.png", None),
        ("table", None),
        ("e.png", None),  # E.png or e.PNG
        ("../../etc/passwd", None),
        ("", None),
        ("x.png", None),
        ("y.png", None),
    ],
)
def test_a_name_means_the_only_file_that_is_the_same_but_for_how_it_is_written(name: str, file: str | None) -> None:
    files = [
        "a.png",
        NFD,
        "set1/b.png",
        "set2/b.png",
        "deep/er/c.d.webp",
        "E.png",
        "e.PNG",
        "table.csv",
        "__MACOSX/x.png",
        ".thumbnails/y.png",
    ]
    assert ImageNames(files).find([name]).get(name) == file


def test_no_file_is_meant_by_names_in_two_folders() -> None:
    names = ImageNames(["a.png", "b.png"])
    assert names.find(["x/a.png", "y/a.png", "x/b.png"]) == {"x/b.png": "b.png"}
    assert names.find(["x/a.png", "X\\A"]) == {"x/a.png": "a.png", "X\\A": "a.png"}
    assert names.find(["x/a.png", "a.png"]) == {"a.png": "a.png"}
    assert names.find(["x/a.png"], taken=["a.png"]) == {}


def test_another_image_is_suggested_only_where_it_has_the_same_numbers() -> None:
    names = ImageNames(["boat_0012.png", "boat_0013.png", "ümlaut.png"])
    assert names.similar("baot_12.png") == "boat_0012.png"
    assert names.similar("boat_0014.png") is None
    assert names.similar("Umluat.jpg") == "ümlaut.png"


@pytest.mark.parametrize("archived", [False, True])
def test_folders_and_zips_are_searched_alike(archived: bool, tmp_path: Path) -> None:
    place = tmp_path / "my images.zip" if archived else tmp_path / "my images"
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    if archived:
        with zipfile.ZipFile(place, "w") as archive:
            archive.write(tmp_path / "x.png", "top/One.png")
    else:
        (place / "top").mkdir(parents=True)
        (tmp_path / "x.png").rename(place / "top" / "One.png")
    store = open_files(place)
    found = FoundImages(store, ["one", "top/One.png", "two.png"])
    assert [found.file(name) for name in ("top/One.png", "two.png")] == ["top/One.png", "two.png"]
    assert found.missing_reason("top/One.png") is None
    assert "there is no such image in" in str(found.missing_reason("two.png"))
    assert found.missing_reason("one")  # the table names the file itself, so "one" is another
    found = FoundImages(store, ["one"])
    assert store.open(found.file("one")).size == (4, 4)
    assert found.hint("oen.png") == ""
    assert FoundImages(store, ["bone.png"]).hint("bone.png") == " (did you mean 'top/One.png'?)"
