"""What holds for every reward."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from published_files import PROMPTS, SAVERS, as_tensor, image
from torch import Tensor

import pamela_rl
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.population import POPULATION_REWARDS, PopulationReward, load_population_reward

PEOPLE = ["ada", "bob", "cem"]
every_reward = pytest.mark.parametrize("name", SAVERS)


@pytest.fixture(scope="module")
def rewards(saved: dict[str, Path]) -> dict[str, PopulationReward]:
    return {name: load_population_reward(name, saved[name]) for name in SAVERS}


def test_all_rewards_of_the_registry_are_tested() -> None:
    assert set(SAVERS) == set(POPULATION_REWARDS)


@every_reward
def test_a_batch_scores_as_its_pictures_one_by_one(
    rewards: dict[str, PopulationReward], images: Tensor, name: str
) -> None:
    together = rewards[name](images, PROMPTS, PEOPLE)
    alone = [rewards[name](images[i : i + 1], PROMPTS[i : i + 1], ["ada"]).mean for i in range(3)]
    assert together.mean.shape == (3,)
    assert together.mean.dtype == torch.float32
    assert together.std is None
    assert together.mean.std() > 1e-3
    torch.testing.assert_close(together.mean, torch.cat(alone), atol=2e-5, rtol=2e-5)


@every_reward
def test_each_picture_is_scored_with_its_own_prompt(
    rewards: dict[str, PopulationReward], images: Tensor, name: str
) -> None:
    same = images[:1].expand(3, -1, -1, -1)
    scores = rewards[name](same, [PROMPTS[0], PROMPTS[1], PROMPTS[0]], PEOPLE).mean
    torch.testing.assert_close(scores[0], scores[2], atol=2e-5, rtol=2e-5)
    difference = (scores[0] - scores[1]).abs()
    assert difference == 0 if name == "aesthetic" else difference > 1e-3


@every_reward
def test_people_make_no_difference(rewards: dict[str, PopulationReward], images: Tensor, name: str) -> None:
    scores = [rewards[name](images, PROMPTS, users).mean for users in (PEOPLE, ["nobody"] * 3)]
    assert torch.equal(*scores)


@every_reward
@pytest.mark.parametrize("shape", [(32, 32), (48, 80)])
def test_gradients_reach_every_pixel_that_is_scored(
    rewards: dict[str, PopulationReward], name: str, shape: tuple[int, int]
) -> None:
    pixels = as_tensor([image(*shape)]).requires_grad_()
    rewards[name](pixels, PROMPTS[:1], ["ada"]).mean.sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    middle = pixels.grad[..., shape[1] // 2 - 12 : shape[1] // 2 + 12]  # what every crop keeps
    assert (middle != 0).float().mean() > 0.9


@every_reward
def test_half_precision_gives_nearly_the_same_scores(
    rewards: dict[str, PopulationReward], saved: dict[str, Path], images: Tensor, name: str
) -> None:
    exact = rewards[name](images, PROMPTS, PEOPLE).mean
    half = load_population_reward(name, saved[name], precision="bf16")(images, PROMPTS, PEOPLE).mean
    assert half.dtype == torch.float32
    assert (half - exact).abs().max() > 0
    full_scale = {"clip_score": 100, "pickscore": 100, "hpsv2.0": 1, "hpsv2.1": 1}.get(name, float(exact.abs().max()))
    torch.testing.assert_close(half, exact, atol=0.02 * full_scale, rtol=0)


@every_reward
def test_as_many_prompts_and_people_as_pictures_are_demanded(
    rewards: dict[str, PopulationReward], images: Tensor, name: str
) -> None:
    with pytest.raises(DataError, match=f"{name} was given 3 images, 2 prompts and 3 user ids; give one prompt"):
        rewards[name](images, PROMPTS[:2], PEOPLE)
    with pytest.raises(DataError, match="3 images, 3 prompts and 1 user ids"):
        rewards[name](images, PROMPTS, ["ada"])
    with pytest.raises(DataError, match=r"shape \(3, 32, 32\); give \(b, 3, height, width\)"):
        rewards[name](images[0], PROMPTS, PEOPLE)


@every_reward
def test_weights_that_cannot_be_had_are_named_with_the_remedy(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be loaded|nor can it be downloaded") as offline:
        load_population_reward(name)
    assert "connect once" in str(offline.value) or "download it from https://huggingface.co/" in str(offline.value)
    with pytest.raises(ConfigError, match=r"cannot be loaded|holds none of .*put one of them there"):
        load_population_reward(name, tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be loaded|nor can it be downloaded"):
        load_population_reward(name, tmp_path / "nowhere")


def test_an_unknown_name_or_precision_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"the reward is 'hps'; use one of aesthetic, clip_score, hpsv2.0"):
        load_population_reward("hps")
    with pytest.raises(ConfigError, match="precision is 'int8'; use one of fp32, bf16, fp16"):
        load_population_reward("pickscore", precision="int8")  # type: ignore[arg-type]


def test_model_libraries_are_imported_when_a_reward_is_loaded_and_not_before() -> None:
    for file in (Path(pamela_rl.__file__).parent / "rewards" / "population").glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                line = ast.unparse(node)
                assert not re.search("transformers|open_clip|huggingface_hub|torchvision", line), f"{file.name}: {line}"
