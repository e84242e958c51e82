from __future__ import annotations

from pathlib import Path
from typing import Any

from pamela_rl.evaluation.verdict import (
    arm_title,
    best_iteration_by_judge,
    blind_test_command,
    interval_meaning,
    is_reward_hacked,
    overall_verdict,
    overtraining_verdict,
    self_judging_note,
    steered_arm,
    verdict,
)


def interval(estimate: float, low: float, high: float) -> dict[str, float]:
    return {"estimate": estimate, "low": low, "high": high}


def row(
    gain: tuple[float, float, float], reward: tuple[float, float, float] = (0.9, 0.7, 1.1), **more: Any
) -> dict[str, Any]:
    wins = {"win_over_base": interval(0.875, 0.8, 0.9), "win_over_other": interval(0.94, 0.9, 1.0)}
    return {"gain": {"true_rating": interval(*gain), "reward": interval(*reward)}, **wins, **more}


def test_a_gain_is_stated_with_its_interval_and_win_rates() -> None:
    assert verdict(row((0.62, 0.41, 0.8), faithfulness_share=0.97), "true_rating", "ada") == (
        "The own adapter raised the true rating for ada by +0.62 [+0.41, +0.80] (reward +0.90) and won 88% of pairs against "
        "the base, 94% against another person's adapter."
    )


def test_a_gain_without_another_arm_says_nothing_of_one() -> None:
    alone = row((0.62, 0.41, 0.8))
    del alone["win_over_other"]
    assert verdict(alone, "true_rating", "ada").endswith("and won 88% of pairs against the base.")


def test_an_interval_that_reaches_zero_is_no_gain() -> None:
    assert verdict(row((0.1, -0.05, 0.2)), "true_rating", "ada") == (
        "No clear gain for ada: the true rating changed by +0.10 [-0.05, +0.20], an interval that reaches 0."
    )
    assert verdict(row((0.1, 0.0, 0.2)), "true_rating", "ada").startswith("No clear gain")


def test_a_reward_that_rose_while_the_true_rating_fell_was_is_reward_hacked() -> None:
    hacked = row((-0.3, -0.4, -0.2))
    assert is_reward_hacked(hacked, "true_rating")
    assert verdict(hacked, "true_rating", "ada") == (
        "Reward hacking: for ada the reward rose by 0.90 while the true rating fell by 0.30; do not use this adapter."
    )


def test_reward_hacking_needs_another_score_and_a_clear_interval() -> None:
    assert not is_reward_hacked(row((-0.3, -0.4, -0.2)), "reward")
    assert not is_reward_hacked(row((-0.1, -0.4, 0.2)), "true_rating")
    assert not is_reward_hacked(row((-0.3, -0.4, -0.2), reward=(0.1, -0.1, 0.3)), "true_rating")


def test_a_loss_is_called_a_loss_where_the_reward_did_not_rise_either() -> None:
    assert verdict(row((-0.3, -0.4, -0.2), reward=(-0.1, -0.2, 0.1)), "true_rating", "ada") == (
        "The own adapter lowered the true rating for ada by -0.30 [-0.40, -0.20]; do not use this adapter."
    )


def test_a_gain_at_the_cost_of_faithfulness_comes_with_a_warning() -> None:
    sentence = verdict(row((0.62, 0.41, 0.8), faithfulness_share=0.62), "true_rating", "ada")
    assert sentence.endswith("; but it shows what was asked only 62% as often as the base.")


def test_a_cosine_is_never_told_as_a_share() -> None:
    clip = row((0.62, 0.41, 0.8), faithfulness_share=None, faithfulness=interval(22.0, 21.0, 23.0))
    clip["gain"]["faithfulness"] = interval(-3.0, -4.0, -2.0)
    assert verdict(clip, "true_rating", "ada").endswith(
        "; but its score of faithfulness to the prompts changed by -3.00 [-4.00, -2.00], from 25.00."
    )
    clip["gain"]["faithfulness"] = interval(-0.1, -0.4, 0.2)
    assert verdict(clip, "true_rating", "ada").endswith("against another person's adapter.")


def test_gains_are_told_by_the_judge_first_with_the_rewards_beside_them() -> None:
    judged = {"gain": {"reward": interval(0.9, 0.7, 1.1), "judge": interval(0.5, 0.3, 0.7)}}
    judged["win_over_base"] = interval(0.8, 0.7, 0.9)  # type: ignore[assignment]
    assert "raised the judge for ada by +0.50 [+0.30, +0.70] (reward +0.90) and won" in verdict(judged, "judge", "ada")
    judged["gain"]["judge"] = interval(-0.5, -0.7, -0.3)
    assert is_reward_hacked(judged, "judge")
    assert "while the judge fell by 0.50" in verdict(judged, "judge", "ada")


def test_a_reward_that_judges_itself_sends_people_to_the_blind_test() -> None:
    assert str(self_judging_note({"primary_score": "reward"})).startswith("The reward judges itself: ")
    assert self_judging_note({"primary_score": "judge"}) is None
    assert blind_test_command(Path("my run")) == ("pamela blind-test --run 'my run' --output_dir 'my run/blind_test'")


def test_one_prompt_tells_no_gain() -> None:
    single = row((0.62, 0.41, 0.8))
    single["gain"] = {name: {"estimate": 0.62, "low": None, "high": None} for name in single["gain"]}
    assert verdict(single, "true_rating", "ada") == (
        "The own adapter changed the true rating for ada by +0.62; one prompt cannot tell a gain from chance, so compare "
        "on more."
    )
    assert not is_reward_hacked(single, "true_rating")


def test_intervals_of_one_person_are_not_said_to_be_over_people() -> None:
    assert "over prompts, for this person alone" in interval_meaning(1)
    assert "over people and prompts" in interval_meaning(2)


def test_a_judge_without_a_reward_beside_it_can_decide() -> None:
    judged = {"gain": {"judge": interval(-0.3, -0.4, -0.2)}}
    assert not is_reward_hacked(judged, "judge")
    assert "lowered the judge for ada" in verdict(judged, "judge", "ada")


def test_everyone_together_is_called_by_their_number() -> None:
    own = {"own": row((0.1, -0.05, 0.2))}
    summary = {"primary_score": "true_rating", "overall": own, "users": {"ada": own, "ben": own}}
    assert overall_verdict(summary).startswith("No clear gain for the average of 2 people: ")
    assert "for ada: " in overall_verdict({**summary, "users": {"ada": own}})


def test_arms_have_titles_and_others_keep_their_name() -> None:
    assert [arm_title(arm) for arm in ("base", "own", "other", "best of 4")] == [
        "Base model",
        "Own adapter",
        "Another's adapter",
        "best of 4",
    ]


def validation(*judged: float | None) -> list[dict[str, Any]]:
    return [
        {"iteration": 5 * row, "eval/judge_mean": value, "eval/reward_mean": 3.0 + row}
        for row, value in enumerate(judged)
    ]


def test_overtraining_is_described_in_words() -> None:
    assert overtraining_verdict(validation(3.0, 4.0, 3.5, 3.25)) == (
        "The judge scored the adapter of iteration 5 of 15 highest and would have stopped there: after it the reward "
        "changed by +2.00 and the judge by -0.75."
    )
    assert "it was not overtrained" in str(overtraining_verdict(validation(3.0, 3.5, 4.0)))
    assert best_iteration_by_judge(validation(3.0, None, 2.0)) == 0
    assert overtraining_verdict([{"iteration": 0, "eval/reward_mean": 1.0}]) is None
    assert overtraining_verdict([]) is None


def test_without_an_own_adapter_the_verdict_is_about_what_there_is() -> None:
    rows = {"base": row((0, 0, 0)), "best_of_n": row((0.1, 0.1, 0.1)), "prompt_search": row((-0.3, -0.4, -0.2))}
    assert steered_arm(rows) == "prompt_search"
    assert steered_arm({"base": row((0, 0, 0))}) is None
    summary = {"primary_score": "true_rating", "overall": rows, "users": {"ada": rows}}
    assert overall_verdict(summary).endswith("fell by 0.30; do not use this arm.")
    not_hacked = row((-0.3, -0.4, -0.2), reward=(0.0, -0.1, 0.1))
    assert verdict(not_hacked, "true_rating", "ada", "prompt_search").startswith(
        "Prompt search lowered the true rating"
    )
