from __future__ import annotations

import multiprocessing
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from painting import colour_of, paint, zipped
from PIL import Image

from pamela_rl.data.images import Files, FolderImages, ZipImages, find_files
from pamela_rl.errors import DataError

Make = Callable[[Path], Files]


def in_folder(folder: Path) -> Files:
    return FolderImages(folder / "images")


def in_zip(folder: Path) -> Files:
    return ZipImages(zipped(folder, folder.parent / "all.zip"), "images/")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a secret beside the pictures, which no id may reach."""
    folder = tmp_path / "all"
    paint(folder / "images" / "deep" / "red.png", "red")
    paint(folder / "secret.png", "blue")
    paint(tmp_path / "images_too" / "secret.png", "blue")
    return folder


@pytest.mark.parametrize("make", [in_folder, in_zip])
def test_an_id_is_a_path_from_the_store_and_may_be_written_in_any_way_that_stays_inside(
    make: Make, folder: Path
) -> None:
    store = make(folder)
    for image in ("deep/red.png", "./deep/red.png", "deep//red.png", "deep/../deep/red.png"):
        assert store.missing_reason(image) is None
        assert colour_of(store.open(image)) == "red"


@pytest.mark.parametrize("make", [in_folder, in_zip])
@pytest.mark.parametrize(
    "image",
    [
        "../secret.png",
        "deep/../../secret.png",
        "/etc/passwd",
        "../../../../etc/passwd",
        "..",
        "../images_too/secret.png",
    ],
)
def test_an_id_that_leads_out_of_the_store_is_refused(make: Make, image: str, folder: Path) -> None:
    store = make(folder)
    with pytest.raises(DataError, match=r"cannot open the image '.*': images lie inside .* and this path leads out"):
        store.open(image)


def test_an_absolute_path_is_taken_if_it_lies_inside_the_folder(folder: Path) -> None:
    store = FolderImages(folder / "images")
    assert colour_of(store.open(str(folder / "images" / "deep" / "red.png"))) == "red"
    assert store.missing_reason(str(folder / "secret.png")) is not None


@pytest.mark.parametrize("make", [in_folder, in_zip])
@pytest.mark.parametrize("image", ["deep", "deep/", "absent.png", "deep/red.png\0", "", "."])
def test_what_is_no_file_is_refused(make: Make, image: str, folder: Path) -> None:
    assert make(folder).missing_reason(image)


@pytest.mark.parametrize("make", [in_folder, in_zip])
@pytest.mark.parametrize("damage", ["cut short", "a broken chunk", "no picture", "a format that is not for pictures"])
def test_a_broken_picture_is_named(make: Make, damage: str, folder: Path) -> None:
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8))
    whole.save(folder / "images" / "bad.png")
    content = (folder / "images" / "bad.png").read_bytes()
    if damage == "cut short":
        (folder / "images" / "bad.png").write_bytes(content[: len(content) // 2])
    elif damage == "a broken chunk":
        chunk = content.index(b"IDAT")
        broken = content[: chunk - 4] + b"\x00\x00\x00\x02" + content[chunk:]  # a length that is not its own
        (folder / "images" / "bad.png").write_bytes(broken)
    elif damage == "no picture":
        (folder / "images" / "bad.png").write_bytes(b"<html>404</html>")
    else:
        whole.save(folder / "images" / "bad.png", format="EPS")  # Pillow would start Ghostscript for it
        with pytest.raises(DataError, match="it is PostScript; export it as PNG"):
            make(folder).open("bad.png")
    with pytest.raises(DataError, match=r"the image .*bad\.png cannot be opened \(.*\); replace or remove it"):
        make(folder).open("bad.png")


def test_a_member_whose_checksum_is_wrong_is_named(folder: Path) -> None:
    archive = zipped(folder, folder.parent / "all.zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"\x89PNG") + 30] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"deep/red\.png cannot be opened \(Bad CRC-32"):
        ZipImages(archive, "images/").open("deep/red.png")


def test_transparency_is_laid_on_white_and_exif_turns_the_picture(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0] * 256)
    palette.save(tmp_path / "palette.png", transparency=b"\x00" * 256)
    turned = Image.new("RGB", (6, 2), "red")
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    store = FolderImages(tmp_path)
    assert store.open("clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert store.open("palette.png").getpixel((0, 0)) == (255, 255, 255)
    assert store.open("turned.jpg").size == (2, 6)


def test_the_dataset_is_found_at_any_depth_of_an_archive_but_not_in_what_macs_add(folder: Path) -> None:
    archive = folder.parent / "all.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("__MACOSX/images/deep/red.png", "")
        writer.write(folder / "images" / "deep" / "red.png", "release/data/images/deep/red.png")
    assert str(find_files(archive, "images/deep/red.png")) == f"{archive}/release/data"
    with pytest.raises(DataError, match=r"all\.zip holds no images/other\.png"):
        find_files(archive, "images/other.png")


def _open_many(store: ZipImages, answers: object) -> None:
    answers.put([store.open(f"{number}.png").getpixel((0, 0)) for number in range(100)])  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_forked_processes_read_the_same_archive_without_disturbing_each_other(tmp_path: Path) -> None:
    for number in range(100):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    store = ZipImages(zipped(tmp_path, tmp_path.parent / f"{tmp_path.name}.zip"))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_open_many, args=(store, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    results = [answers.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert results == [[(number, 0, 0) for number in range(100)]] * 4
