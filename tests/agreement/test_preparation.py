from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pamela_rl.agreement.add_people import add_people
from pamela_rl.agreement.answers import read_answers
from pamela_rl.agreement.fit_rewards import fit_rewards
from pamela_rl.agreement.preparation import PreparedStudy, prepare_study
from pamela_rl.data.settings import SourceSettings
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.opening import open_scorers

NUM_IMAGES = 30
EYES, OTHER_EYES = "pixels", "world"


def write_images(folder: Path, count: int = NUM_IMAGES, seed: int = 0) -> np.ndarray:
    """Write images of different brightness, each of its own pattern, and return how bright each is."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    light = rng.random(count)
    for number in range(count):
        pattern = 80 * rng.random((8, 8, 3)).repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray((pattern + 170 * light[number]).astype(np.uint8)).save(folder / f"{number}.png")
    return light


def write_ratings(folder: Path, light: np.ndarray, users: dict[str, float], **columns: list[str]) -> Path:
    """Write how much users like images by their brightness; a negative taste likes dark ones."""
    rows = [
        {"user": user, "image": f"{n}.png", "rating": int(np.clip(np.rint(3 + 4 * taste * (light[n] - 0.5)), 1, 5))}
        | {name: values[n] for name, values in columns.items()}
        for user, taste in users.items()
        for n in range(len(light))
    ]
    pd.DataFrame(rows).to_csv(folder / "ratings.csv", index=False)
    return folder


def prepare(folder: Path, cache: Path, **options: object) -> PreparedStudy:
    return prepare_study(SourceSettings(path=str(folder)), EYES, cache, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_everybody_who_rated_is_in_the_reward_and_has_a_judge(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = {f"p{number}": (-1.0) ** number for number in range(count)}
    folder = write_ratings(tmp_path / "mine", write_images(tmp_path / "mine"), users)
    prepared = prepare(folder, tmp_path / "cache", judge_encoder=OTHER_EYES)
    fit_rewards(prepared, folder=tmp_path / "out")
    said = capsys.readouterr().out
    assert f"{30 * count} answers of {count} {'person' if count == 1 else 'people'} about 30 images." in said
    assert f"p{count - 1}: on images it was not shown" in said
    reward, scorers = open_scorers(tmp_path / "out")
    assert reward.model.user_ids == tuple(users)
    assert scorers["judge"].basis == "the same ratings through another encoder (world)"  # type: ignore[attr-defined]
    bright, dark = torch.full((1, 3, 32, 32), 0.9), torch.full((1, 3, 32, 32), 0.1)
    for user, taste in users.items():
        lead = reward(bright, [""], [user]).mean - reward(dark, [""], [user]).mean
        assert float(lead) * taste > 0


def test_a_judge_of_an_earlier_reward_does_not_stay(tmp_path: Path) -> None:
    folder = write_ratings(tmp_path / "mine", write_images(tmp_path / "mine"), {"ada": 1.0})
    for judge, names in ((OTHER_EYES, {"reward", "judge"}), (None, {"reward"})):
        prepared = prepare(folder, tmp_path / "cache", judge_encoder=judge)
        fit_rewards(prepared, ["ridge_per_user"], tmp_path / "out")
        assert set(open_scorers(tmp_path / "out")[1]) == names


def test_newcomers_are_held_out_of_few_people_only_if_asked_for(tmp_path: Path) -> None:
    users = {f"p{number}": 1.0 for number in range(5)}
    folder = write_ratings(tmp_path / "mine", write_images(tmp_path / "mine"), users)
    assert not prepare(folder, tmp_path / "cache").study.held_out
    assert "test_unseen" in prepare(folder, tmp_path / "cache", unseen_users=0.4).study.held_out


def test_a_judge_of_many_answers_has_images_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pamela_rl.agreement.preparation.JUDGE_ALONE", NUM_IMAGES)
    folder = write_ratings(tmp_path / "mine", write_images(tmp_path / "mine"), {"ada": 1.0})
    prepared = prepare(folder, tmp_path / "cache", judge_encoder=OTHER_EYES)
    judge = prepared.judge
    assert judge is not None
    assert judge.alone
    assert not judge.fitted_on.images & prepared.study.fitted_on_everything.images
    assert len(judge.fitted_on.images) == round(0.3 * NUM_IMAGES)
    assert len(prepared.study.fitted_on_everything.images) == NUM_IMAGES - round(0.3 * NUM_IMAGES)


def test_favourites_alone_are_refused_and_contrasted_with_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    light = write_images(tmp_path / "mine")
    pd.DataFrame({"image": [f"{n}.png" for n in range(NUM_IMAGES)], "rating": 5}).to_csv(
        tmp_path / "mine" / "ratings.csv", index=False
    )
    write_images(tmp_path / "drawn", seed=1)
    with pytest.raises(DataError, match=r"all 30 ratings of .* are 5, which says what is liked .*--source\.contrast"):
        read_answers(SourceSettings(path=str(tmp_path / "mine")))
    answers = read_answers(SourceSettings(path=str(tmp_path / "mine"), contrast=str(tmp_path / "drawn")))
    assert "30 images of" in capsys.readouterr().out
    assert len(answers.images) == 2 * NUM_IMAGES
    by_image = answers.ratings.rows.set_index("image")["rating"]
    assert by_image["0.png"] == 5
    assert by_image["not chosen/0.png"] == 1
    assert answers.store.open("not chosen/0.png").size == (32, 32)
    assert len(light) == NUM_IMAGES


def test_prompts_are_known_to_a_reward_only_if_they_were_when_it_was_fitted(tmp_path: Path) -> None:
    light = write_images(tmp_path / "mine")
    source = SourceSettings(path=str(write_ratings(tmp_path / "mine", light, {"ada": 1.0})))
    fit_rewards(prepare_study(source, "world", tmp_path / "cache"), ["taste_basis"], tmp_path / "without")
    prompts = [f"a {'boat' if n % 2 else 'tree'}" for n in range(NUM_IMAGES)]
    write_ratings(tmp_path / "mine", light, {"ada": 1.0}, prompt=prompts)
    fit_rewards(prepare_study(source, "world", tmp_path / "cache"), ["taste_basis"], tmp_path / "with")
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for folder, knows in (("without", False), ("with", True)):
        reward = open_scorers(tmp_path / folder)[0]
        scores = [reward(images, [prompt] * 4, ["ada"] * 4).mean for prompt in ("", "a boat at night")]
        assert reward.fitted_on.prompts == knows
        assert torch.equal(*scores) != knows


@pytest.mark.parametrize(
    ("missing", "left", "sentence"),
    [
        (2, NUM_IMAGES - 2, "2 of 30 images have no prompt; answers about them are left out"),
        (10, NUM_IMAGES, "10 of 30 images have no prompt, so the reward is fitted without prompts"),
    ],
)
def test_a_table_with_some_prompts_is_made_consistent(
    missing: int, left: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [""] * missing + ["a boat"] * (NUM_IMAGES - missing)
    folder = write_ratings(tmp_path / "mine", write_images(tmp_path / "mine"), {"ada": 1.0}, prompt=prompts)
    answers = read_answers(SourceSettings(path=str(folder)))
    assert sentence in capsys.readouterr().out
    assert len(answers.ratings.rows) == left
    assert any(answers.prompts) == (left < NUM_IMAGES)


def test_one_repeated_rating_is_no_reason_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_ratings(tmp_path / "mine", write_images(tmp_path / "mine"), {"ada": 1.0})
    table = pd.read_csv(folder / "ratings.csv")
    pd.concat([table, table.iloc[[0]]]).to_csv(folder / "ratings.csv", index=False)
    assert prepare(folder, tmp_path / "cache").ceilings == []
    assert "No ceiling is shown: nobody in" in capsys.readouterr().out


def test_people_are_added_to_a_fitted_reward_and_nobody_else_changes(tmp_path: Path) -> None:
    first = write_ratings(tmp_path / "first", write_images(tmp_path / "first"), {"ada": 1.0, "bob": -1.0})
    fit_rewards(prepare(first, tmp_path / "cache", judge_encoder=OTHER_EYES), folder=tmp_path / "out")
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = open_scorers(tmp_path / "out")[0](images, [""] * 6, ["ada"] * 6)
    second = write_ratings(tmp_path / "second", write_images(tmp_path / "second", seed=1), {"eve": -1.0})
    said = add_people(tmp_path / "out", SourceSettings(path=str(second)), tmp_path / "cache")
    assert said.startswith("Added: eve; ")
    reward, scorers = open_scorers(tmp_path / "out")
    assert reward.model.user_ids == scorers["judge"].user_ids == ("ada", "bob", "eve")  # type: ignore[attr-defined]
    torch.testing.assert_close(reward(images, [""] * 6, ["ada"] * 6).mean, before.mean)
    bright, dark = torch.full((1, 3, 32, 32), 0.9), torch.full((1, 3, 32, 32), 0.1)
    assert reward(bright, [""], ["eve"]).mean < reward(dark, [""], ["eve"]).mean
    write_ratings(second, np.full(NUM_IMAGES, 0.5), {"eve": 1.0})
    table = pd.read_csv(second / "ratings.csv").assign(rating=np.arange(NUM_IMAGES) % 10 + 1)
    table.to_csv(second / "ratings.csv", index=False)
    with pytest.raises(ConfigError, match=r"the new ratings run from 1 to 10, those of the reward from 1 to 5"):
        add_people(tmp_path / "out", SourceSettings(path=str(second), scale=[1, 10]), tmp_path / "cache")
