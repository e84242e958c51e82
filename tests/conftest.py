from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.families.stable_diffusion import StableDiffusionPolicy
from pamela_rl.world import load_judge, load_pipeline
from pamela_rl.world.judge import ContentJudge

SHARED = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture
def policy() -> StableDiffusionPolicy:
    """The world's own pipeline, fresh, without an adapter."""
    return policy_for(load_pipeline())


@pytest.fixture(scope="session")
def content_judge() -> ContentJudge:
    return load_judge()


@pytest.fixture(scope="session")
def human_ratings() -> Path:
    folder = SHARED / "data" / "human_dog_ratings"
    if not folder.is_dir():
        pytest.skip("the human ratings are kept beside the project, not in it")
    return folder


@pytest.fixture(autouse=True)
def _same_randomness() -> None:
    torch.manual_seed(0)
