from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from accelerate import Accelerator
from quickstart import QuickstartConfig
from train import TrainRecipeConfig

from pamela_rl.algorithms.ddpo import DDPO
from pamela_rl.algorithms.nft import NFT
from pamela_rl.algorithms.registry import open_algorithm
from pamela_rl.cli.command_line import read_config
from pamela_rl.config import TrainConfig
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.training.processes import check_processes
from pamela_rl.world.run_settings import for_few_ratings

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"


@pytest.fixture
def paths(world_reward: PersonalReward, tmp_path: Path) -> list[str]:
    """Flags for what the shipped settings leave to the reader: a reward and prompts."""
    world_reward.save(tmp_path / "reward")
    (tmp_path / "prompts.txt").write_text("a boat\n", encoding="utf-8")
    return [f"--reward={tmp_path / 'reward'}", f"--prompts={tmp_path / 'prompts.txt'}"]


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("quickstart*.yaml")), ids=lambda file: file.stem)
def test_shipped_settings_hold_together(file: Path) -> None:
    config = read_config(QuickstartConfig, "", [f"--config={file}"])
    assert config.output_dir.parts[0] == "outputs"


@pytest.mark.parametrize("file", sorted((CONFIGS / "accelerate").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_processes_share_an_iteration_of_the_defaults_and_of_every_shipped_setting(file: Path) -> None:
    (processes,) = map(int, re.findall(r"^num_processes: (\d+)$", file.read_text(encoding="utf-8"), re.MULTILINE))
    several = cast(Accelerator, SimpleNamespace(num_processes=processes, mixed_precision="no"))
    check_processes(several, for_few_ratings())
    check_processes(several, TrainConfig())
    for settings in [*CONFIGS.glob("*.yaml"), *(CONFIGS / "algorithms").glob("*.yaml")]:
        shared = re.findall(r"^  images_per_iteration: (\d+)$", settings.read_text(encoding="utf-8"), re.MULTILINE)
        for images in map(int, shared):
            check_processes(several, TrainConfig(images_per_iteration=images, group_size=images))


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("train_*.yaml")), ids=lambda file: file.stem)
def test_shipped_settings_of_real_models_hold_together(file: Path, paths: list[str]) -> None:
    config = read_config(TrainRecipeConfig, "", [f"--config={file}", *paths])
    assert config.output_dir.parts[0] == "outputs"
    assert "/" in config.model.name
    assert config.model.dtype == "bfloat16"


@pytest.mark.parametrize("file", sorted((CONFIGS / "algorithms").glob("*.yaml")), ids=lambda file: file.stem)
def test_an_algorithms_own_numbers_go_over_the_model_its_header_names(file: Path, paths: list[str]) -> None:
    text = file.read_text(encoding="utf-8")
    (model,) = re.findall(r"--config (\S+train_\w+\.yaml) --config \S+/" + file.name, text)
    flags = [f"--config={CONFIGS.parents[1] / model}", f"--config={file}", *paths]
    flags += ["--source.path=."] if file.stem in ("sft", "dpo") else []
    config = read_config(TrainRecipeConfig, "", flags)
    assert "/" in config.model.name
    named = {"grpo_fast": "grpo", "mix_grpo": "grpo", "grpo_guard": "grpo"}.get(file.stem, file.stem)
    assert open_algorithm(config.algorithm).name == named


def test_another_word_forgets_the_settings_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("algorithm: {name: grpo, learning_rate: 1e-5, kl_weight: 0.0}\n", encoding="utf-8")
    config = read_config(QuickstartConfig, "", [f"--config={file}", "--algorithm=nft"])
    assert open_algorithm(config.algorithm) == NFT()
    config = read_config(QuickstartConfig, "", [f"--config={file}", "--algorithm={name: ddpo, clip_range: 0.5}"])
    assert open_algorithm(config.algorithm) == DDPO(clip_range=0.5)
    assert open_algorithm(read_config(QuickstartConfig, "", [f"--config={file}"]).algorithm).learning_rate == 1e-5


def test_settings_that_do_not_fit_the_run_are_refused_before_it_starts() -> None:
    with pytest.raises(
        ConfigError, match=r"num_updates is 7 but an iteration has 48 images x 4 trained steps = 192 pairs"
    ):
        read_config(QuickstartConfig, "", ["--algorithm={name: ddpo, num_updates: 7}"])
