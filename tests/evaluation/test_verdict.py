from __future__ import annotations

from typing import Any

from pamela_rl.evaluation.verdict import (
    arm_title,
    drift_verdict,
    fooled,
    judges_choice,
    overall_verdict,
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


def test_a_gain_is_told_with_its_interval_and_win_rates() -> None:
    assert verdict(row((0.62, 0.41, 0.8), faithfulness_share=0.97), "true_rating", "ada") == (
        "The own adapter raised the true rating for ada by +0.62 [+0.41, +0.80] and won 88% of pairs against the base, "
        "94% against another person's adapter."
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


def test_a_reward_that_rose_while_the_true_rating_fell_was_fooled() -> None:
    hacked = row((-0.3, -0.4, -0.2))
    assert fooled(hacked, "true_rating")
    assert verdict(hacked, "true_rating", "ada") == (
        "The reward was fooled: for ada it rose by 0.90 while the true rating fell by 0.30; do not use this adapter."
    )


def test_the_reward_cannot_be_told_fooled_by_itself_nor_by_a_wide_interval() -> None:
    assert not fooled(row((-0.3, -0.4, -0.2)), "reward")
    assert not fooled(row((-0.1, -0.4, 0.2)), "true_rating")
    assert not fooled(row((-0.3, -0.4, -0.2), reward=(0.1, -0.1, 0.3)), "true_rating")


def test_a_loss_is_called_a_loss_where_the_reward_did_not_rise_either() -> None:
    assert verdict(row((-0.3, -0.4, -0.2), reward=(-0.1, -0.2, 0.1)), "true_rating", "ada") == (
        "The own adapter lowered the true rating for ada by -0.30 [-0.40, -0.20]; do not use this adapter."
    )


def test_a_gain_at_the_cost_of_what_was_asked_went_too_far() -> None:
    sentence = verdict(row((0.62, 0.41, 0.8), faithfulness_share=0.62), "true_rating", "ada")
    assert sentence.endswith("; but it shows what was asked only 62% as often as the base, so it steered too far.")


def test_a_judge_without_a_reward_beside_it_can_decide() -> None:
    judged = {"gain": {"judge": interval(-0.3, -0.4, -0.2)}}
    assert not fooled(judged, "judge")
    assert "lowered the judge for ada" in verdict(judged, "judge", "ada")


def test_everyone_together_is_called_by_their_number() -> None:
    own = {"own": row((0.1, -0.05, 0.2))}
    summary = {"decided_by": "true_rating", "overall": own, "users": {"ada": own, "ben": own}}
    assert overall_verdict(summary).startswith("No clear gain for the average of 2 people: ")
    assert "for one person: " in overall_verdict({**summary, "users": {"ada": own}})


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


def test_training_for_too_long_is_said_in_words() -> None:
    assert drift_verdict(validation(3.0, 4.0, 3.5, 3.25)) == (
        "The judge liked the adapter of iteration 5 of 15 best and would have stopped there: from then on the reward "
        "changed by +2.00 and the judge by -0.75."
    )
    assert "was not trained for too long" in str(drift_verdict(validation(3.0, 3.5, 4.0)))
    assert judges_choice(validation(3.0, None, 2.0)) == 0
    assert drift_verdict([{"iteration": 0, "eval/reward_mean": 1.0}]) is None
    assert drift_verdict([]) is None


def test_without_an_own_adapter_the_verdict_is_about_what_there_is() -> None:
    rows = {"base": row((0, 0, 0)), "best_of_n": row((0.1, 0.1, 0.1)), "prompt_search": row((-0.3, -0.4, -0.2))}
    assert steered_arm(rows) == "prompt_search"
    assert steered_arm({"base": row((0, 0, 0))}) is None
    summary = {"decided_by": "true_rating", "overall": rows, "users": {"ada": rows}}
    assert overall_verdict(summary).endswith("fell by 0.30; do not steer like this.")
    unfooled = row((-0.3, -0.4, -0.2), reward=(0.0, -0.1, 0.1))
    assert verdict(unfooled, "true_rating", "ada", "prompt_search").startswith("Prompt search lowered the true rating")
