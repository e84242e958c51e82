"""One-sentence conclusions from a comparison, for one user and for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pamela_rl.evaluation.compare import BASE, OTHER, OWN

MIN_FAITHFULNESS_SHARE = 0.9  # of the base's faithfulness; below it a gain comes with a warning
_SCORES = {"true_rating": "true rating", "faithfulness": "faithful"}
_ARMS = {
    BASE: "Base model",
    OWN: "Own adapter",
    OTHER: "Another's adapter",
    "prompt_search": "Prompt search",
    "other_prompt_search": "Another's prompt search",
    "own_and_search": "Own adapter and prompt search",
    "best_of_n": "Best of N",
    "noise_search": "Noise search",
    "rewriter": "Learned rewriter",
    "untrained_rewriter": "Untrained rewriter",
    "early_stopped": "Stopped by the judge",
    "long": "Three times as long",
}
_STEERED = (
    OWN,
    "prompt_search",
    "best_of_n",
    "noise_search",
    "rewriter",
)  # the verdict is about the first available one


def score_name(name: str) -> str:
    """Return the display name of a score."""
    return _SCORES.get(name, name)


def arm_title(arm: str) -> str:
    """Return the display name of an arm."""
    return _ARMS.get(arm, arm)


def steered_arm(rows: Mapping[str, Any]) -> str | None:
    """Return the arm that the verdict is about, or None where only the base is available."""
    return next((arm for arm in (*_STEERED, *rows) if arm in rows and arm != BASE), None)


def is_reward_hacked(row: Mapping[str, Any], primary_score: str) -> bool:
    """Tell whether the reward's gain is above 0 (by its interval) while the primary score's is not."""
    gain = row["gain"]
    reward_rose = "reward" in gain and gain["reward"]["low"] > 0
    return bool(primary_score != "reward" and reward_rose and gain[primary_score]["high"] <= 0)


def verdict(row: Mapping[str, Any], primary_score: str, who: str, arm: str = OWN) -> str:
    """Describe in one sentence what an arm gained."""
    gain = row["gain"][primary_score]
    name, what = score_name(primary_score), arm_title(arm)
    subject = f"The {what[0].lower()}{what[1:]}" if arm == OWN else what
    share = row.get("faithfulness_share")
    advice = "do not use this adapter" if arm == OWN else "do not use this arm"
    if is_reward_hacked(row, primary_score):
        return (
            f"Reward hacking: for {who} the reward rose by {row['gain']['reward']['estimate']:.2f} while the {name} "
            f"fell by {-gain['estimate']:.2f}; {advice}."
        )
    if gain["high"] < 0:
        return f"{subject} lowered the {name} for {who} by {_range(gain)}; {advice}."
    if gain["low"] <= 0:
        return f"No clear gain for {who}: the {name} changed by {_range(gain)}, an interval that reaches 0."
    text = f"{subject} raised the {name} for {who} by {_range(gain)} and won {row['win_over_base']['estimate']:.0%} "
    text += "of pairs against the base"
    if "win_over_other" in row:
        text += f", {row['win_over_other']['estimate']:.0%} against another person's adapter"
    if share is not None and share < MIN_FAITHFULNESS_SHARE:
        return text + f"; but its faithfulness to the prompts is only {share:.0%} of the base's."
    return text + "."


def overall_verdict(summary: Mapping[str, Any]) -> str:
    """Describe in one sentence what steering gained over all users."""
    count = len(summary["users"])
    who = "one person" if count == 1 else f"the average of {count} people"
    arm = steered_arm(summary["overall"])
    if arm is None:
        return "Only the base model was drawn."
    return verdict(summary["overall"][arm], summary["primary_score"], who, arm)


def best_iteration_by_judge(validation: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the iteration with the highest judge score, or None without a judge."""
    judged = [row for row in validation if row.get("eval/judge_mean") is not None]
    return max(judged, key=lambda row: float(row["eval/judge_mean"]))["iteration"] if judged else None


def overtraining_verdict(validation: Sequence[Mapping[str, Any]]) -> str | None:
    """Describe in one sentence whether training continued past the judge's best iteration; None without a judge."""
    best = best_iteration_by_judge(validation)
    if best is None or len(validation) < 2:
        return None
    last = validation[-1]
    if best == last["iteration"]:
        return f"The judge scored the last adapter highest, that of iteration {best}: it was not overtrained."
    best_row = next(row for row in validation if row["iteration"] == best)
    judge, reward = (_difference(best_row, last, key) for key in ("eval/judge_mean", "eval/reward_mean"))
    return (
        f"The judge scored the adapter of iteration {best} of {last['iteration']} highest and would have stopped there: after "
        f"it the reward changed by {reward:+.2f} and the judge by {judge:+.2f}."
    )


def _difference(first: Mapping[str, Any], last: Mapping[str, Any], key: str) -> float:
    before, after = first.get(key), last.get(key)
    return float("nan") if before is None or after is None else after - before


def _range(interval: Mapping[str, float]) -> str:
    return f"{interval['estimate']:+.2f} [{interval['low']:+.2f}, {interval['high']:+.2f}]"
