from __future__ import annotations

import re
from pathlib import Path

import pytest
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
def test_an_algorithms_own_numbers_go_over_the_model_its_header_names(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    (model,) = re.findall(r"--config (\S+train_\w+\.yaml) --config \S+/" + file.name, text)
    config = read_config(TrainRecipeConfig, "", [f"--config={CONFIGS.parents[1] / model}", f"--config={file}"])
    assert "/" in config.model.name
    named = {"grpo_fast": "grpo", "mix_grpo": "grpo", "grpo_guard": "grpo"}.get(file.stem, file.stem)
    assert config.opened().name == named
