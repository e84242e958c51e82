from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fit_reward import FitRewardConfig, fit
from PIL import Image

from pamela_rl.cli.command_line import read_config
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.personal import PersonalReward

CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("reward*.yaml"))


@pytest.fixture
def rated_folder(tmp_path: Path) -> Path:
    """Twelve grey pictures, rated by twelve people from dark to bright."""
    for number in range(12):
        noise = np.random.default_rng(number).integers(0, 60, (16, 16, 3))
        Image.fromarray((noise + 16 * number).astype(np.uint8)).save(tmp_path / f"{number}.png")
    rows = [(f"p{user}", f"{image}.png", 1 + (image + user) % 5) for user in range(12) for image in range(12)]
    pd.DataFrame(rows, columns=["user_id", "image", "rating"]).to_csv(tmp_path / "ratings.csv", index=False)
    return tmp_path


def config(folder: Path, output: Path, *arguments: str) -> FitRewardConfig:
    source = [
        f"--source.path={folder / 'ratings.csv'}",
        "--source.kind=folder",
        "--encoder=pixels",
        "--judge_encoder=none",
    ]
    return read_config(FitRewardConfig, "", [*source, f"--output_dir={output}", *arguments])


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_settings_hold_together(file: Path) -> None:
    flags = [f"--config={file}", f"--source.path={Path(__file__)}"]
    assert read_config(FitRewardConfig, "", flags).output_dir.parts[0] == "outputs"


def test_a_folder_of_rated_pictures_becomes_a_saved_reward(rated_folder: Path, tmp_path: Path) -> None:
    fit(config(rated_folder, tmp_path / "out", "--models=[population_mean]"))
    reward = PersonalReward.load(tmp_path / "out" / "rewards" / "population_mean", PixelEncoder())
    assert set(reward.model.user_ids) <= {f"p{user}" for user in range(12)}
    assert (tmp_path / "out" / "agreement.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models=[psychic]"], r"models is \['psychic'\]; use all, or any of taste_basis, ridge_per_user"),
        (["--source.scale=[1]"], r"source\.scale has 1 numbers; give the lowest and the highest"),
        (
            ["--judge_encoder=pixels"],
            r"encoder and judge_encoder are both 'pixels', so the judge would be blind to what",
        ),
        (["--unseen_users=1"], r"unseen_users is 1\.0; use a share from 0 to less than 1"),
        (["--num_support_ratings=-1"], "num_support_ratings and curve count ratings; use 0 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        config(tmp_path, tmp_path, *arguments)


def test_a_source_without_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"source\.kind is 'pamela' but there is no source\.path; give the folder"):
        read_config(FitRewardConfig, "", ["--source.kind=pamela"])


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--source.path=nowhere.csv", "source.path is nowhere.csv, but there is no such file or folder"),
        ("--source.images=nowhere", "source.images is nowhere, but"),
        ("--source.choices=nowhere.csv", "source.choices is nowhere.csv, but"),
    ],
)
def test_paths_that_are_not_there_are_refused_with_the_config(
    argument: str, sentence: str, rated_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=sentence):
        config(rated_folder, tmp_path, argument)
