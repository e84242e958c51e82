from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # two workers, two cores: threads that wait for one another would stall them both

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from pamela_rl.diffusion.families import policy_for
from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.diffusion.policy import Policy
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.world.fitted_rewards import fit_reward
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

SHARED = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture
def policy() -> Policy:
    """The world's own pipeline, fresh, without an adapter."""
    return policy_for(load_pipeline("world"))


@pytest.fixture
def small_policy() -> Policy:
    """The world's own pipeline at a quarter of the pixels: what training does is the same, and faster."""
    return policy_for(load_pipeline("world"), 32, 32)


@pytest.fixture(scope="session")
def content_judge() -> ContentJudge:
    return ContentJudge.load()


@pytest.fixture(scope="session")
def encoder() -> FeatureEncoder:
    return FeatureEncoder.load(WORLD_ENCODER)


@pytest.fixture(scope="session")
def raters() -> Raters:
    return make_raters()


@pytest.fixture(scope="session")
def world_ratings(raters: Raters, content_judge: ContentJudge) -> WorldRatings:
    """Six hundred rated pictures; read only."""
    return make_ratings(raters, content_judge, num_images=600)


@pytest.fixture(scope="session")
def world_reward(world_ratings: WorldRatings, raters: Raters, encoder: FeatureEncoder) -> PersonalReward:
    """The taste basis fitted to them; read only."""
    return fit_reward(world_ratings, raters, encoder)[0]


@pytest.fixture(scope="session")
def human_ratings() -> Path:
    folder = SHARED / "data" / "human_dog_ratings"
    if not folder.is_dir():
        pytest.skip("the human ratings are kept beside the project, not in it")
    return folder


@pytest.fixture(autouse=True)
def _same_randomness() -> None:
    torch.manual_seed(0)
