"""The world's reward and its judge, fitted once and kept in a folder with the users they were fitted for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent

from pamela_rl.agreement.per_user import LEGEND, format_table
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.rewards.opening import open_scorers
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.saved import CHOSEN_USERS, chosen_users
from pamela_rl.storage import WORLD_ENCODER, write_text
from pamela_rl.types import Scorer
from pamela_rl.world.background import in_background
from pamela_rl.world.fitted_rewards import (
    distinct_users,
    fit_judge,
    fit_reward,
    known_users,
    measure_agreement,
    retest_correlation,
)
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import make_raters
from pamela_rl.world.ratings import make_ratings
from pamela_rl.world.scorers import world_scorers

TITLES = {"test_seen": "known people, new pictures", "test_unseen": "new people, 10 ratings shown"}


def ensure_rewards(folder: Path, num_users: int) -> None:
    """Fit the reward and the judge, unless ``folder`` holds them for as many users; print how good they are.

    Args:
        folder: Gets ``personal/``, ``judge/`` and ``rewards.json``.
        num_users: To choose, with tastes as different as there are.
    """
    if len(chosen_users(folder)) >= num_users:
        print(f"1. and 2. The rewards fitted earlier are in {folder}.")
        return
    raters, content, encoder = make_raters(), ContentJudge.load(), FeatureEncoder.load(WORLD_ENCODER)
    print("1. Two hundred simulated people rate 5,000 pictures; a personal reward learns from 52,500 of their ratings.")
    ratings = make_ratings(raters, content)
    users = distinct_users(raters, ratings.expected_ratings, known_users(ratings, raters), num_users)
    judge = in_background(_save_judge, users, folder / "judge")  # it shares nothing with the reward
    reward, features = fit_reward(ratings, raters, encoder)
    results = measure_agreement(reward, features, ratings, raters)
    print(f"\n{indent(LEGEND, '   ')}")
    for split, title in TITLES.items():
        print(f"\n   {title} ({split}), means over people:\n{indent(format_table(results[split]), '   ')}")
    retest = retest_correlation(ratings, raters)
    print(f"\n   When people rate the same picture twice, their two ratings correlate to {retest:.2f}.")
    print("\n2. A judge learns from other people and other pictures; no adapter is ever trained against it.")
    reward.save(folder / "personal")
    judge()
    agreement = {split: [row.to_json() for row in rows] for split, rows in results.items()}
    facts = {"users": users, "retest_correlation": retest, "agreement": agreement}
    write_text(folder / CHOSEN_USERS, json.dumps(facts, indent=1) + "\n")


def _save_judge(users: Sequence[str], folder: Path) -> None:
    fit_judge(make_raters(), users, ContentJudge.load(), FeatureEncoder.load(WORLD_ENCODER)).save(folder)


def open_rewards(folder: Path, device: str = "cpu") -> tuple[PersonalReward, dict[str, Scorer]]:
    """Load what ``ensure_rewards`` saved: the reward, and every scorer by name.

    Raises:
        ConfigError: The folder holds no rewards.
    """
    reward, scorers = open_scorers(folder / "personal", folder / "judge", device=device)
    return reward, scorers | world_scorers(reward.model.user_ids)
