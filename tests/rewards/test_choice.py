from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_weighted import brightness, redness
from torch import Tensor

from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.choice import RewardPart, check_choice, describe, in_words, parts_of
from pamela_rl.rewards.combined import CombinedReward, Reference
from pamela_rl.rewards.function import FunctionReward
from pamela_rl.rewards.population import POPULATION_REWARDS
from pamela_rl.rewards.settings import POPULATION_NAMES
from pamela_rl.rewards.weighted import WeightedReward
from pamela_rl.training.memory_plan import modules_of
from pamela_rl.types import RewardOutput

OWN = """
import torch

def reward(images, prompts, user_ids, metadata):
    asked = torch.tensor([float(row.get("red", 0)) for row in metadata])
    return asked * images[:, 0].mean(dim=(1, 2))
"""
IMAGES = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
PROMPTS = [f"prompt {place}" for place in range(8)]


def liking(images: Tensor, prompts: list[str], user_ids: list[str]) -> RewardOutput:
    """Ada likes red, and Ben what is not."""
    sign = torch.tensor([1.0 if user == "ada" else -3.0 for user in user_ids])
    return RewardOutput(sign * images[:, 0].mean(dim=(1, 2)))


def written(folder: Path, text: str) -> Path:
    (folder / "mine.py").write_text(text, encoding="utf-8")
    return folder / "mine.py"


def test_names_that_are_known_without_torch_are_those_that_load() -> None:
    assert set(POPULATION_NAMES) == set(POPULATION_REWARDS)
    script = "import sys; import pamela_rl.rewards.choice; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_function_in_a_file_scores_with_what_its_prompts_say(tmp_path: Path) -> None:
    metadata = {"prompt 1": {"red": 2.0}}
    reward = FunctionReward(written(tmp_path, OWN), metadata)
    images = IMAGES.clone().requires_grad_()
    output = reward(images, PROMPTS, ["ada"] * 8)
    expected = torch.zeros(8)
    expected[1] = 2 * IMAGES[1, 0].mean()
    torch.testing.assert_close(output.mean, expected)
    (gradient,) = torch.autograd.grad(output.mean.sum(), images)
    assert float(gradient[1, 0].sum()) == pytest.approx(2.0)


def test_scores_that_are_not_one_an_image_are_refused(tmp_path: Path) -> None:
    reward = FunctionReward(written(tmp_path, "def reward(images, prompts, user_ids):\n    return [1.0, 2.0]\n"), {})
    with pytest.raises(DataError, match=r"was given 8 images and returned scores of shape \(2,\); return one number"):
        reward(IMAGES, PROMPTS, ["ada"] * 8)


def test_parts_are_on_each_persons_own_scale_of_the_base_models_images() -> None:
    reference = Reference.of(torch.rand(32, 3, 4, 4), ["a boat"] * 32)
    parts = {"mine": (liking, RewardPart(2.0)), "bright": (brightness, RewardPart(0.5, normalise=False))}
    reward = CombinedReward(parts, reference)
    scored = reference.images / 255
    for user in ("ada", "ben"):
        alone = reward(scored, reference.prompts, [user] * 32)
        assert alone.parts is not None
        assert float(alone.parts["mine"].mean()) == pytest.approx(0, abs=1e-5)
        assert float(alone.parts["mine"].std(correction=0)) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(alone.parts["bright"], brightness(scored, [], []).mean)
        torch.testing.assert_close(alone.mean, 2 * alone.parts["mine"] + 0.5 * alone.parts["bright"])
    users = ["ada", "ben", "ben", "ada", "ada", "ben", "ada", "ben"]
    mixed = reward(IMAGES, PROMPTS, users)
    for row, user in enumerate(users):
        alone = reward(IMAGES[row : row + 1], PROMPTS[row : row + 1], [user])
        torch.testing.assert_close(mixed.mean[row : row + 1], alone.mean)
    assert mixed.weights == {"mine": 2.0, "bright": 0.5}


def test_the_sum_is_that_of_a_weighted_reward_calibrated_on_the_same_images() -> None:
    reference = Reference.of(torch.rand(16, 3, 4, 4), ["a boat"] * 16)
    parts = {"bright": (brightness, RewardPart(1.5)), "red": (redness, RewardPart(-0.5))}
    other = WeightedReward.calibrated(
        {"bright": (brightness, 1.5), "red": (redness, -0.5)}, reference.images / 255, reference.prompts, ["ada"] * 16
    )
    ours, theirs = (reward(IMAGES, PROMPTS, ["ada"] * 8) for reward in (CombinedReward(parts, reference), other))
    assert torch.equal(ours.mean, theirs.mean)
    assert ours.std is not None
    assert theirs.std is not None
    assert torch.equal(ours.std, theirs.std)


def test_reference_images_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    reference = Reference.of(torch.rand(3, 3, 4, 4), ["a", "b", "ü"])
    reference.write(tmp_path / "reference.safetensors")
    read = Reference.read(tmp_path / "reference.safetensors")
    assert torch.equal(read.images, reference.images)
    assert read.prompts == reference.prompts


def test_the_plan_finds_the_models_of_all_parts() -> None:
    class Scored:
        def __init__(self) -> None:
            self.model = torch.nn.Linear(2, 2)

        def __call__(self, images: Tensor, prompts: object, user_ids: object) -> RewardOutput:
            return brightness(images, [], [])

    parts = {name: (Scored(), RewardPart(normalise=False)) for name in ("a", "b")}
    assert len(modules_of(CombinedReward(parts, None))) == 2


def test_what_a_run_maximises_is_named_so_that_any_change_of_it_shows(tmp_path: Path) -> None:
    file = written(tmp_path, OWN)
    choice = {"mine": RewardPart(folder=tmp_path), "own": RewardPart(0.5, file=file, normalise=False)}
    before = describe(choice, "abc", {})
    assert before.startswith("1 x encoder abc normalised + 0.5 x own ")
    assert describe(choice, "abc", {"a boat": {"red": 1}}) != before
    assert describe(parts_of(tmp_path / "r") and tmp_path / "r", "abc", {}) == "encoder abc"
    written(tmp_path, OWN + "\n")
    assert describe(choice, "abc", {}) != before
    assert in_words(choice) == "1 x mine* + 0.5 x own, * in standard deviations of the base model"


@pytest.mark.parametrize(
    ("choice", "users", "sentence"),
    [
        (Path("pickscor"), ["me"], r"no personal reward can be read from pickscor"),
        (Path("pickscore"), [], r"the reward \(pickscore\) knows nobody by name; say for whom .*--users"),
        (Path("absent.py"), ["me"], r"reward is 'absent.py', but there is no such file"),
        ({"pikscore": RewardPart()}, ["me"], r"the reward is 'pikscore'; use one of aesthetic, .* or a Python file"),
        ({"a b": RewardPart()}, ["me"], r"a reward is called 'a b'; metrics bear its name"),
        ({}, ["me"], r"reward has no parts"),
    ],
)
def test_a_reward_that_cannot_be_is_refused_before_anything_loads(choice: Any, users: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_choice(choice, None, users)


def test_two_personal_parts_a_judge_of_nobody_and_a_file_without_its_function_are_refused(tmp_path: Path) -> None:
    (tmp_path / "reward").mkdir()
    saved = {"kind": "TasteBasis", "encoder": "abc", "encoder_name": "pixels", "model": {"user_ids": ["rater-007"]}}
    (tmp_path / "reward" / "reward.json").write_text(json.dumps(saved))
    own = RewardPart(folder=tmp_path / "reward")
    check_choice({"mine": own, "pickscore": RewardPart(0.5)}, None, ["rater-007"])
    with pytest.raises(ConfigError, match=r"the rewards a and b are both personal"):
        check_choice({"a": own, "b": own}, None, [])
    with pytest.raises(ConfigError, match=r"so it judges nothing; leave it out"):
        check_choice(Path("pickscore"), tmp_path / "reward", ["me"])
    with pytest.raises(ConfigError, match=r"mine.py has no function reward; it must define one"):
        check_choice(written(tmp_path, "def score(): pass\n"), None, ["me"])
    with pytest.raises(ConfigError, match=r"the reward in .*mine.py cannot be read: line 1: SyntaxError"):
        check_choice(written(tmp_path, "def reward(:\n"), None, ["me"])
    with pytest.raises(ConfigError, match=r"the weight of a reward is 0; .*--watch"):
        RewardPart(0)
