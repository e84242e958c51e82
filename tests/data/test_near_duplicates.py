from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pamela_rl.data.images import FolderImages
from pamela_rl.data.near_duplicates import near_duplicates
from pamela_rl.errors import DataError
from pamela_rl.world.ratings import WorldRatings


@pytest.fixture
def photograph(tmp_path: Path) -> Image.Image:
    """A made-up picture with some structure, saved as original.png."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
    image.save(tmp_path / "original.png")
    return image


def test_the_same_picture_compressed_resized_or_brightened_is_found(photograph: Image.Image, tmp_path: Path) -> None:
    photograph.save(tmp_path / "compressed.jpg", quality=30)
    photograph.resize((97, 120)).save(tmp_path / "small.png")
    ImageEnhance.Brightness(photograph).enhance(1.1).save(tmp_path / "brighter.png")
    names = ["original.png", "compressed.jpg", "small.png", "brighter.png"]
    assert near_duplicates(names, FolderImages(tmp_path)) == dict.fromkeys(names, "original.png")


def test_mirrored_turned_and_recoloured_pictures_are_others(photograph: Image.Image, tmp_path: Path) -> None:
    photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    photograph.rotate(90).save(tmp_path / "turned.png")
    red, green, blue = photograph.split()
    Image.merge("RGB", (blue, red, green)).save(tmp_path / "recoloured.png")
    names = ["original.png", "mirrored.png", "turned.png", "recoloured.png"]
    assert near_duplicates(names, FolderImages(tmp_path)) == {name: name for name in names}


def test_plain_pictures_of_different_colours_are_different_pictures(tmp_path: Path) -> None:
    for colour in ("white", "black", "red", "navy"):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{colour}.png")
    Image.new("RGB", (80, 80), (250, 2, 3)).save(tmp_path / "nearly red.png")
    names = ["white.png", "black.png", "red.png", "navy.png", "nearly red.png"]
    found = near_duplicates(names, FolderImages(tmp_path))
    assert found == {**{name: name for name in names}, "nearly red.png": "red.png"}


def test_groups_are_closed_whatever_the_order(tmp_path: Path) -> None:
    for shade in (100, 112, 124, 136):  # neighbours are alike, the ends are not
        Image.new("RGB", (8, 8), (shade, shade, shade)).save(tmp_path / f"{shade}.png")
    ends = ["136.png", "100.png"]
    assert len(set(near_duplicates(ends, FolderImages(tmp_path)).values())) == 2
    names = ["136.png", "100.png", "112.png", "124.png", "136.png"]
    assert near_duplicates(names, FolderImages(tmp_path)) == dict.fromkeys(names, "136.png")


def test_drawn_scenes_are_told_apart_and_their_compressed_copies_are_not(
    world_ratings: WorldRatings, tmp_path: Path
) -> None:
    all_images = (world_ratings.images[:150].permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    for number, image in enumerate(all_images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(image).save(tmp_path / f"{number}.jpg", quality=60)
    originals, copies = ([f"{number}.{kind}" for number in range(150)] for kind in ("png", "jpg"))
    found = near_duplicates([*originals, *copies], FolderImages(tmp_path))
    assert np.mean([found[copy] == found[original] for copy, original in zip(copies, originals)]) > 0.97
    assert len(set(near_duplicates(originals, FolderImages(tmp_path)).values())) >= 145


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot open the image 'gone\.png'"):
        near_duplicates(["gone.png"], FolderImages(tmp_path))
    assert near_duplicates([], FolderImages(tmp_path)) == {}
