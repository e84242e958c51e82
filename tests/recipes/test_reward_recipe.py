from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_train_recipe import SHORT
from train import TrainRecipeConfig, train_users

from pamela_rl.cli.command_line import read_config
from pamela_rl.errors import ConfigError, PamelaError, TrainingError
from pamela_rl.rewards.combined import Reference
from pamela_rl.storage import read_metrics

LIGHT = "def reward(images, prompts, user_ids):\n    return images.mean(dim=(1, 2, 3))\n"
AS_ASKED = """
def reward(images, prompts, user_ids, metadata):
    channels = [row["channel"] for row in metadata]
    return [float(image[channel].mean()) for image, channel in zip(images, channels)]
"""
YAML = """
reward:
  light: {{file: {folder}/light.py, weight: -1.0}}
  asked: {{file: {folder}/asked.py, weight: 0.5, normalise: false}}
users: [me]
prompts: {folder}/prompts.jsonl
output_dir: {folder}/out
"""


@pytest.fixture
def recipe(tmp_path: Path) -> list[str]:
    (tmp_path / "light.py").write_text(LIGHT)
    (tmp_path / "asked.py").write_text(AS_ASKED)
    (tmp_path / "prompts.jsonl").write_text(
        '{"prompt": "a boat", "channel": 0}\n\n{"prompt": "a tree", "channel": 2}\n'
    )
    (tmp_path / "recipe.yaml").write_text(YAML.format(folder=tmp_path))
    quick = ["--train.validation.every=0", "--train.validation.strengths=[]", "--train.reward.adherence_weight=0"]
    return [f"--config={tmp_path / 'recipe.yaml'}", *SHORT, *quick, "--content=none"]


@pytest.mark.slow
def test_a_sum_of_functions_is_trained_for_somebody_by_name_and_its_parts_are_logged(
    recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_users(read_config(TrainRecipeConfig, "", recipe))
    assert "reward: -1 x light* + 0.5 x asked, * in standard deviations of the base model" in capsys.readouterr().out
    row = read_metrics(tmp_path / "out" / "users" / "me" / "metrics.jsonl")[0]
    (file,) = (tmp_path / "out" / "reference").iterdir()
    reference = Reference.read(file)
    assert set(reference.prompts) == {"a boat", "a tree"}
    brightness = (reference.images.float() / 255).mean(dim=(1, 2, 3))
    assert abs(row["rollout/reward_light_mean"]) < 6  # of the base model still, in its own standard deviations
    assert 0 < row["rollout/reward_asked_mean"] < 1
    assert row["rollout/reward_mean"] == pytest.approx(
        -row["rollout/reward_light_mean"] + 0.5 * row["rollout/reward_asked_mean"], abs=1e-5
    )
    assert float(brightness.std()) > 0
    facts = json.loads((tmp_path / "out" / "adapters" / "me" / "adapter.json").read_text())
    assert facts["reward"].startswith("-1 x light ")
    weights = load_file(tmp_path / "out" / "adapters" / "me" / "pytorch_lora_weights.safetensors")
    assert all(torch.isfinite(matrix).all() for matrix in weights.values())
    # longer, from where it stopped; but not with another function, another weight or other metadata
    train_users(read_config(TrainRecipeConfig, "", [*recipe, "--train.num_iterations=2"]))
    assert len(read_metrics(tmp_path / "out" / "users" / "me" / "metrics.jsonl")) == 2
    (tmp_path / "asked.py").write_text(AS_ASKED + "\n")
    with pytest.raises((PamelaError, TrainingError), match=r"reward: there '-1 x light .*', here '-1 x light "):
        train_users(read_config(TrainRecipeConfig, "", [*recipe, "--train.num_iterations=3"]))


def test_a_file_alone_is_the_reward_as_it_is_and_needs_somebody_by_name(recipe: list[str], tmp_path: Path) -> None:
    config = read_config(TrainRecipeConfig, "", [*recipe, f"--reward={tmp_path / 'light.py'}"])
    assert config.reward == tmp_path / "light.py"
    with pytest.raises(ConfigError, match=r"the reward \(light\) knows nobody by name; say for whom"):
        read_config(TrainRecipeConfig, "", [*recipe, f"--reward={tmp_path / 'light.py'}", "--users=all"])
    with pytest.raises(ConfigError, match=r"the reward is 'pickscor'; use one of aesthetic"):
        read_config(TrainRecipeConfig, "", [*recipe, "--watch=[pickscor]"])
    with pytest.raises(ConfigError, match=r"start is absent, but there is no such run, adapter or file"):
        read_config(TrainRecipeConfig, "", [*recipe, "--start=absent"])
