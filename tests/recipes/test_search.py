"""Prompts searched for a person of one's own, from the recipe's settings to its files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from search import SearchConfig, search

from pamela_rl.cli.command_line import read_config
from pamela_rl.errors import PamelaError
from pamela_rl.rewards.personal import PersonalReward

SHORT = [
    "--users=[rater-003]", "--num_prompts=1", "--reference_images=12", "--drawing.search_inference_steps=3",
    "--search.num_rounds=2", "--search.num_variants=3", "--search.num_elites=1", "--search.num_seeds=1",
]  # fmt: skip


@pytest.fixture
def reward(world_reward: PersonalReward, tmp_path: Path) -> Path:
    world_reward.save(tmp_path / "reward")
    return tmp_path / "reward"


def test_a_search_leaves_a_table_and_the_winning_prompts_and_goes_on_where_it_was(reward: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    config = read_config(SearchConfig, "", [f"--reward={reward}", f"--output_dir={folder}", *SHORT])
    search(config)
    (row,) = csv.DictReader((folder / "winners.csv").read_text(encoding="utf-8").splitlines())
    assert row["user"] == "rater-003"
    assert row["request"] in row["prompt"]
    assert float(row["prompt_score"]) >= float(row["request_score"])
    assert int(row["images_spent"]) == 2 * 3
    assert float(row["faithfulness"]) <= 1
    assert (folder / "prompts" / "rater-003.txt").read_text(encoding="utf-8") == f"{row['prompt']}\n"
    drawn = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert len(drawn) == 6
    table = (folder / "winners.csv").read_bytes()
    search(config)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == drawn
    assert (folder / "winners.csv").read_bytes() == table


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--base_model=some/model"], "images are drawn by some/model, for which no prompts are known"),
        (["--num_prompts=0"], "num_prompts is 0; use 1 or more"),
        (["--chat.url=http://localhost:1"], "chat.url is .*, but nothing reads it: there is no chat.model"),
        (["--base_model=model.safetensors"], "base_model is .*model.safetensors"),
        (["--drawing.negative_prompt=fog"], "negative_prompt is 'fog' but drawing.guidance_scale is 1"),
        (["--users=[nobody]"], "the reward does not know user 'nobody'"),
    ],
)
def test_a_search_that_cannot_work_is_refused(flags: list[str], sentence: str, reward: Path) -> None:
    with pytest.raises(PamelaError, match=sentence):
        read_config(SearchConfig, "", [f"--reward={reward}", *flags])
