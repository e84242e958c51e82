from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, sync_playwright
from torch import Tensor

from pamela_rl.evaluation.compare import UserComparison
from pamela_rl.types import Unit

sys.path.insert(0, str(Path(__file__).parents[1] / "steering"))  # its local_server


def flat(*values: float) -> Tensor:
    """Pictures of one grey each, so that distances are differences of greys."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 4, 4).clone()


@pytest.fixture
def by_hand() -> UserComparison:
    """Two prompts, two seeds, three arms; small enough to work out on paper."""
    return UserComparison(
        user_id="ada",
        prompts=("a boat", "a boat", "a tree", "a tree"),
        seeds=(1, 2, 1, 2),
        images={"base": flat(0, 0, 0, 0), "own": flat(0.1, 0.3, 0.2, 0.2), "other": flat(1, 1, 0, 1)},
        scores={
            "base": {"true_rating": np.array([1.0, 2, 3, 4]), "faithfulness": np.array([1.0, 0, 1, 1])},
            "own": {"true_rating": np.array([2.0, 3, 3, 5]), "faithfulness": np.array([1.0, 1, 0, 0])},
            "other": {"true_rating": np.array([1.0, 1, 3, 6]), "faithfulness": np.array([0.0, 0, 0, 0])},
        },
        images_spent={"base": 0, "own": 1200, "other": 1200},
        units={"faithfulness": Unit.SHARE},
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser; pages are opened in it as a reader would."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine; install the package chromium to test pages in it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
