from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pamela_rl.agreement.fit_rewards import fit_rewards
from pamela_rl.agreement.preparation import PreparedStudy, prepare_study
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.opening import read_source
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.encoders.pixels import PixelEncoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.settings import MODEL_NAMES

PEOPLE, PICTURES = 30, 40


@pytest.fixture(scope="module")
def rated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures from dark to bright; half of the people like them dark, half bright, and all like them red."""
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    light, red = rng.random((2, PICTURES))
    for number in range(PICTURES):
        noise = 40 * rng.random((32, 32, 3))
        colour = np.array([0.5 * light[number] + 0.5 * red[number], light[number], light[number]])
        Image.fromarray((noise + 200 * colour).astype(np.uint8)).save(folder / f"{number}.png")
    likes = np.where(np.arange(PEOPLE) % 2, 3.0, -3.0)[:, None] * (light - 0.5) + 2 * (red - 0.5) + 3
    ratings = np.clip(np.rint(likes + 0.4 * rng.standard_normal(likes.shape)), 1, 5)
    rows = [(f"p{u}", f"{i}.png", ratings[u, i]) for u in range(PEOPLE) for i in range(PICTURES)]
    pd.DataFrame(rows, columns=["user_id", "image", "rating"]).to_csv(folder / "ratings.csv", index=False)
    pairs = rng.integers(PICTURES, size=(900, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    users = rng.integers(PEOPLE, size=len(pairs))
    won = likes[users, pairs[:, 0]] > likes[users, pairs[:, 1]]
    choices = pd.DataFrame(
        {
            "user_id": [f"p{user}" for user in users],
            "image_a": [f"{a}.png" for a in pairs[:, 0]],
            "image_b": [f"{b}.png" for b in pairs[:, 1]],
            "choice": np.where(won, "a", "b"),
        }
    )
    choices.to_csv(folder / "choices.csv", index=False)
    return folder


def prepare(path: Path, kind: Literal["folder", "choices"] = "folder") -> PreparedStudy:
    return prepare_study(SourceSettings(kind, str(path)), "pixels", path.parent / "features")


def test_a_folder_of_rated_pictures_becomes_a_measured_reward(
    rated_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["taste_basis", "nearest_users", "demographics_only", "population_regression", "population_mean"]
    fitted = fit_rewards(prepare(rated_folder / "ratings.csv"), names, tmp_path / "out", curve=[0, 4])
    assert list(fitted) == names
    said = capsys.readouterr().out
    assert "1,200 answers of 30 people about 40 images" in said
    assert max(len(line) for line in said.splitlines() if "SROCC" in line) <= 120
    facts = json.loads((tmp_path / "out" / "agreement.json").read_text(), parse_constant=pytest.fail)
    for split, gain in (("test_seen", 0.2), ("test_unseen", 0.05)):  # newcomers showed four pictures
        scores = {row["name"]: row["srocc"][0] for row in facts["per_user"][split]}
        assert scores["taste_basis"] > scores["population_regression"] + gain
        assert scores["taste_basis"] > scores["somebody else's taste"] + gain
    curve = facts["learning_curves"]["taste_basis"]
    assert curve["4"]["srocc"][0] > curve["0"]["srocc"][0] + 0.02
    figures = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {"predicted_vs_actual.png", "calibration.png", "learning_curve.png", "tastes.png"}
    for name in names:
        reward = PersonalReward.load(tmp_path / "out" / "rewards" / name, PixelEncoder())
        known = list(reward.model.user_ids)[:1] or ["p0"]
        assert reward(torch.rand(1, 3, 32, 32), [""], known).mean.isfinite().all()


def test_choices_alone_teach_a_reward(rated_folder: Path, tmp_path: Path) -> None:
    names = [name for name in MODEL_NAMES if name != "transformer"]
    fitted = fit_rewards(prepare(rated_folder / "choices.csv", "choices"), names, tmp_path / "out")
    assert list(fitted) == ["taste_basis", "ridge_per_user"]
    facts = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert facts["choices"]["taste_basis"][0] > 0.75


def test_a_split_that_leaks_is_refused_before_anything_is_fitted(rated_folder: Path) -> None:
    rows = pd.read_csv(rated_folder / "ratings.csv")
    rows["split"] = np.where(rows["user_id"].str.len() == 2, "train", "test_seen")  # every picture on both sides
    rows.to_csv(rated_folder / "leaking.csv", index=False)
    with pytest.raises(DataError, match=r"the splits of .*leaking\.csv leak\. 40 images stand in train and in test"):
        prepare(rated_folder / "leaking.csv")


def test_the_world_has_no_file_to_read() -> None:
    with pytest.raises(ConfigError, match=r"source\.kind is 'world'"):
        read_source(SourceSettings())
