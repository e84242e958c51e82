from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from painting import paint, zipped

from pamela_rl.data.images import FolderImages, ImageStore, ZipImages
from pamela_rl.data.sources.hf_datasets import DatasetImages
from pamela_rl.errors import DataError

Make = Callable[[Path], ImageStore]


def in_folder(folder: Path) -> ImageStore:
    return FolderImages(folder)


def in_zip(folder: Path) -> ImageStore:
    return ZipImages(zipped(folder, folder.parent / "all.zip", "images/"), "images/")


def as_bytes(folder: Path) -> ImageStore:
    return in_dataset(folder, lambda file: {"bytes": file.read_bytes(), "path": None})


def as_paths(folder: Path) -> ImageStore:
    return in_dataset(folder, lambda file: {"bytes": None, "path": str(file)})


def in_dataset(folder: Path, entry: Callable[[Path], dict[str, object]]) -> ImageStore:
    library = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
    files = sorted(folder.iterdir())
    rows = library.Dataset.from_dict({"image": [entry(file) for file in files]})
    store = DatasetImages("the dataset")
    store.put_column(rows.cast_column("image", library.Image(decode=False)), "image", [file.name for file in files])
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "blue"):
        paint(tmp_path / "images" / f"{colour}.png", colour)
    return tmp_path / "images"


@pytest.mark.parametrize("make", [in_folder, in_zip, as_bytes, as_paths])
def test_a_digest_is_the_hash_of_the_encoded_bytes_and_decodes_nothing(
    make: Make, folder: Path, opened: list[object]
) -> None:
    store = make(folder)
    for name in ("red.png", "blue.png"):
        assert store.digest(name) == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert not opened


@pytest.mark.parametrize("make", [in_folder, as_paths])
def test_a_digest_follows_what_lies_there_now(make: Make, folder: Path) -> None:
    store = make(folder)
    before = store.digest("red.png")
    paint(folder / "red.png", "green")
    assert store.digest("red.png") != before


@pytest.mark.parametrize("make", [in_folder, in_zip, as_bytes])
def test_what_cannot_be_opened_has_no_digest(make: Make, folder: Path) -> None:
    with pytest.raises(DataError, match=r"cannot open the image 'absent\.png': "):
        make(folder).digest("absent.png")


@pytest.mark.parametrize("make", [in_folder, in_zip])
def test_nothing_outside_the_store_is_hashed(make: Make, folder: Path) -> None:
    paint(folder.parent / "secret.png", "red")
    with pytest.raises(DataError, match="and this path leads out"):
        make(folder).digest("../secret.png")


def test_a_member_whose_checksum_is_wrong_has_no_digest(folder: Path) -> None:
    archive = zipped(folder, folder.parent / "all.zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"\x89PNG") + 30] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"blue\.png cannot be opened \(Bad CRC-32"):
        ZipImages(archive).digest("blue.png")
