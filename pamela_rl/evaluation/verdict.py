"""What the figures say, in words, for one person and for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pamela_rl.evaluation.compare import BASE, OTHER, OWN

FAITHFUL_ENOUGH = 0.9  # share of the base's faithfulness below which a gain is not called a gain
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
_STEERED = (OWN, "prompt_search", "best_of_n", "noise_search", "rewriter")  # the first that is there is judged


def score_name(name: str) -> str:
    """Name a score for readers."""
    return _SCORES.get(name, name)


def arm_title(arm: str) -> str:
    """Name an arm for readers."""
    return _ARMS.get(arm, arm)


def steered_arm(rows: Mapping[str, Any]) -> str | None:
    """Return the arm that the verdict is about, or None where nothing but the base is there."""
    return next((arm for arm in (*_STEERED, *rows) if arm in rows and arm != BASE), None)


def fooled(row: Mapping[str, Any], decided_by: str) -> bool:
    """Tell whether the reward rose while what it stands for did not: its interval above 0, the other's not."""
    gain = row["gain"]
    rose = "reward" in gain and gain["reward"]["low"] > 0
    return bool(decided_by != "reward" and rose and gain[decided_by]["high"] <= 0)


def verdict(row: Mapping[str, Any], decided_by: str, who: str, arm: str = OWN) -> str:
    """Say in one sentence what an arm did."""
    gain = row["gain"][decided_by]
    name, what = score_name(decided_by), arm_title(arm)
    subject = f"The {what[0].lower()}{what[1:]}" if arm == OWN else what
    share = row.get("faithfulness_share")
    useless = "do not use this adapter" if arm == OWN else "do not steer like this"
    if fooled(row, decided_by):
        return (
            f"The reward was fooled: for {who} it rose by {row['gain']['reward']['estimate']:.2f} while the {name} "
            f"fell by {-gain['estimate']:.2f}; {useless}."
        )
    if gain["high"] < 0:
        return f"{subject} lowered the {name} for {who} by {_range(gain)}; {useless}."
    if gain["low"] <= 0:
        return f"No clear gain for {who}: the {name} changed by {_range(gain)}, an interval that reaches 0."
    text = f"{subject} raised the {name} for {who} by {_range(gain)} and won {row['win_over_base']['estimate']:.0%} "
    text += "of pairs against the base"
    if "win_over_other" in row:
        text += f", {row['win_over_other']['estimate']:.0%} against another person's adapter"
    if share is not None and share < FAITHFUL_ENOUGH:
        return text + f"; but it shows what was asked only {share:.0%} as often as the base, so it steered too far."
    return text + "."


def overall_verdict(summary: Mapping[str, Any]) -> str:
    """Say in one sentence what steering did over all people."""
    count = len(summary["users"])
    who = "one person" if count == 1 else f"the average of {count} people"
    arm = steered_arm(summary["overall"])
    if arm is None:
        return "Nothing but the base model was drawn."
    return verdict(summary["overall"][arm], summary["decided_by"], who, arm)


def judges_choice(validation: Sequence[Mapping[str, Any]]) -> int | None:
    """Return after how many iterations the judge liked the pictures best, or None where no judge looked."""
    seen = [row for row in validation if row.get("eval/judge_mean") is not None]
    return max(seen, key=lambda row: float(row["eval/judge_mean"]))["iteration"] if seen else None


def drift_verdict(validation: Sequence[Mapping[str, Any]]) -> str | None:
    """Say in one sentence whether training went on for too long, in the judge's eyes; None where no judge looked."""
    best = judges_choice(validation)
    if best is None or len(validation) < 2:
        return None
    last = validation[-1]
    if best == last["iteration"]:
        return f"The judge liked the last adapter best, that of iteration {best}: it was not trained for too long."
    there = next(row for row in validation if row["iteration"] == best)
    judge, reward = (_changed(there, last, key) for key in ("eval/judge_mean", "eval/reward_mean"))
    return (
        f"The judge liked the adapter of iteration {best} of {last['iteration']} best and would have stopped there: from "
        f"then on the reward changed by {reward:+.2f} and the judge by {judge:+.2f}."
    )


def _changed(first: Mapping[str, Any], last: Mapping[str, Any], key: str) -> float:
    before, after = first.get(key), last.get(key)
    return float("nan") if before is None or after is None else after - before


def _range(interval: Mapping[str, float]) -> str:
    return f"{interval['estimate']:+.2f} [{interval['low']:+.2f}, {interval['high']:+.2f}]"
