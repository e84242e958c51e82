from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pamela_rl.errors import DataError
from pamela_rl.evaluation.compare import UserComparison
from pamela_rl.evaluation.gallery import load_gallery, save_gallery


@pytest.fixture
def folder(by_hand: UserComparison, tmp_path: Path) -> Path:
    save_gallery(tmp_path, [by_hand])
    return tmp_path


def edit(folder: Path, **changes: Any) -> None:
    """Change the second entry of the list."""
    path = folder / "pictures" / "pictures.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows[1] = {**rows[1], **changes}
    path.write_text(json.dumps(rows), encoding="utf-8")


def test_pictures_come_back_with_their_person_arm_prompt_and_seed(by_hand: UserComparison, tmp_path: Path) -> None:
    images = {arm: torch.rand(4, 3, 6, 8) for arm in by_hand.images}
    ada, stranger = replace(by_hand, images=images), replace(by_hand, user_id="../../Eve & <b>")
    assert save_gallery(tmp_path, [ada, stranger]) == tmp_path / "pictures"
    loaded = load_gallery(tmp_path)
    assert len(loaded) == len({image.file for image in loaded}) == 24
    for image in loaded:
        comparison = ada if image.user_id == "ada" else stranger
        row = list(zip(comparison.prompts, comparison.seeds)).index((image.prompt, image.seed))
        shown = torch.from_numpy(np.array(Image.open(image.file))).permute(2, 0, 1) / 255
        assert (shown - comparison.images[image.arm][row]).abs().max() <= 0.5001 / 255
        assert image.file.resolve().is_relative_to(tmp_path / "pictures")
    assert {image.user_id for image in loaded} == {"ada", "../../Eve & <b>"}


def test_a_gallery_that_fails_half_way_leaves_the_old_one(folder: Path, by_hand: UserComparison) -> None:
    before = load_gallery(folder)
    short = replace(by_hand, user_id="bob", seeds=(1,))
    with pytest.raises(ValueError, match="shorter"):
        save_gallery(folder, [by_hand, short])
    assert load_gallery(folder) == before
    assert [path.name for path in folder.iterdir()] == ["pictures"]


def test_pictures_outside_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "secret.png").write_bytes(b"")
    for outside in ("../secret.png", str(tmp_path / "secret.png")):
        edit(folder, file=outside)
        with pytest.raises(DataError, match=r"pictures\.json, entry 2: file is '.*secret\.png', outside .*pictures;"):
            load_gallery(folder)
    (folder / "pictures" / "link.png").symlink_to(folder / "secret.png")
    edit(folder, file="link.png")
    with pytest.raises(DataError, match=r"entry 2: file is 'link\.png', outside"):
        load_gallery(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"file": "ada/base/0009.png"}, "entry 2: file is 'ada/base/0009.png', which is not in .* make the comparison"),
        ({"seed": "7"}, "entry 2: seed is '7'; it must be a whole number"),
        ({"prompt": None}, "entry 2: prompt is None; it must be text"),
        ({"seed": 1}, r"entry 2: \('ada', 'base', 'a boat', 1\) was there before; keep one"),
    ],
)
def test_a_wrong_entry_is_named(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    edit(folder, **changes)
    with pytest.raises(DataError, match=sentence):
        load_gallery(folder)


def test_a_folder_without_a_list_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there are no pictures in .*empty .* name the folder of a comparison"):
        load_gallery(tmp_path / "empty")
    for text, sentence in (("[", "is not JSON"), ("{}", "is not a list of pictures"), ("[]", "is not a list")):
        (folder / "pictures" / "pictures.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=sentence):
            load_gallery(folder)
