from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_rewriter import RewriterConfig, train

from pamela_rl.cli.command_line import read_config
from pamela_rl.errors import ConfigError, UnknownUserError
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.steering.rewriter import PromptRewriter
from pamela_rl.world.rewriter import make_language_model, make_tokenizer

CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("rewriter*.yaml"))
USERS = ["rater-003", "rater-005"]
QUICK = (
    "--num_inference_steps=1",
    "--held_out_prompts=2",
    "--max_new_tokens=6",
    "--reference_images=40",
    "--grpo.num_steps=1",
    "--grpo.completions_per_step=4",
    "--grpo.group_size=2",
    "--grpo.batch_size=4",
)


@pytest.fixture
def rewards(world_reward: PersonalReward, tmp_path: Path) -> Path:
    folder = tmp_path / "rewards"
    world_reward.save(folder / "personal")
    (folder / "rewards.json").write_text(json.dumps({"users": USERS}))
    return folder


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_settings_of_the_rewriter_hold_together(
    file: Path, rewards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outputs/quickstart").mkdir(parents=True)
    rewards.rename("outputs/quickstart/rewards")
    assert read_config(RewriterConfig, "", [f"--config={file}"]) == RewriterConfig()


def test_the_recipe_publishes_a_rewriter_and_what_it_gained(rewards: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    make_language_model(tokenizer).save_pretrained(tmp_path / "words")
    tokenizer.save_pretrained(tmp_path / "words")
    out = tmp_path / "out"
    flags = (f"--rewards={rewards}", f"--output_dir={out}", f"--language_model={tmp_path / 'words'}")
    train(read_config(RewriterConfig, "", [*flags, *QUICK]))
    rewriter = PromptRewriter.load(out / "rewriter")
    assert set(rewriter.descriptions) == set(USERS)
    assert all("likes" in description for description in rewriter.descriptions.values())
    rows = json.loads((out / "comparison.json").read_text())
    assert [row["user_id"] for row in rows] == USERS
    assert all(1 <= row["true_rating/trained"] <= 5 and 1 <= row["true_rating/untrained"] <= 5 for row in rows)
    assert json.loads((out / "rewriter" / "rewriter.json").read_text())["images_spent"] <= 4
    assert len((out / "training" / "metrics.jsonl").read_text().splitlines()) == 1


def test_rewards_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no personal reward can be read from"):
        RewriterConfig(rewards=tmp_path / "nothing")


def test_people_must_be_named_where_the_rewards_name_none(rewards: Path) -> None:
    (rewards / "rewards.json").unlink()
    with pytest.raises(ConfigError, match="run the quickstart first, or name them with --users"):
        RewriterConfig(rewards=rewards)


def test_counts_of_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="held_out_prompts and seeds_per_prompt count; use 1 or more"):
        RewriterConfig(held_out_prompts=0)


def test_people_the_reward_does_not_know_are_refused(rewards: Path) -> None:
    with pytest.raises(UnknownUserError, match="the reward does not know user 'nobody'"):
        RewriterConfig(rewards=rewards, users=["nobody"])
