from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from published_files import SAVERS, SIZE, as_tensor, image
from torch import Tensor


@pytest.fixture(scope="session")
def rgb_images() -> list[Image.Image]:
    return [image(SIZE, SIZE, seed) for seed in range(3)]


@pytest.fixture(scope="session")
def images(rgb_images: list[Image.Image]) -> Tensor:
    return as_tensor(rgb_images)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each reward that holds what its authors publish; only to be read."""
    root, folders = tmp_path_factory.mktemp("published"), {}
    for name, save in SAVERS.items():
        folders[name] = root / save.__name__
        if not folders[name].exists():
            save(folders[name])
    return folders
