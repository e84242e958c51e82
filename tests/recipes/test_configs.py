from __future__ import annotations

from pathlib import Path

import pytest
from algorithm_source import open_algorithm
from command_line import read_config
from quickstart import QuickstartConfig
from train import TrainRecipeConfig

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("quickstart*.yaml")), ids=lambda file: file.stem)
def test_shipped_settings_hold_together(file: Path) -> None:
    config = read_config(QuickstartConfig, "", [f"--config={file}"])
    assert config.output_dir.parts[0] == "outputs"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("train_*.yaml")), ids=lambda file: file.stem)
def test_shipped_settings_of_real_models_hold_together(file: Path) -> None:
    config = read_config(TrainRecipeConfig, "", [f"--config={file}"])
    assert config.output_dir.parts[0] == "outputs"
    assert "/" in config.model.name
    assert config.model.dtype == "bfloat16"


@pytest.mark.parametrize("file", sorted((CONFIGS / "algorithms").glob("*.yaml")), ids=lambda file: file.stem)
def test_an_algorithms_own_numbers_go_over_a_models(file: Path) -> None:
    config = read_config(TrainRecipeConfig, "", [f"--config={CONFIGS / 'train_sd35.yaml'}", f"--config={file}"])
    assert config.model.name == "stabilityai/stable-diffusion-3.5-medium"
    assert open_algorithm(config.algorithm).name in file.stem or file.stem == "mix_grpo"
    assert file.read_text(encoding="utf-8").startswith("# ")
