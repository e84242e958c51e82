"""What the figures say, in words, for one person and for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pamela_rl.evaluation.compare import OTHER, OWN

SCORE_NAMES = {"true_rating": "true rating", "judge": "judge", "reward": "reward", "faithfulness": "faithful"}
FAITHFUL_ENOUGH = 0.9  # share of the base's faithfulness below which a gain is not called a gain


def fooled(row: Mapping[str, Any], decided_by: str) -> bool:
    """Tell whether the reward rose while what it stands for did not: its interval above 0, the other's not."""
    gain = row["gain"]
    rose = "reward" in gain and gain["reward"]["low"] > 0
    return bool(decided_by != "reward" and rose and gain[decided_by]["high"] <= 0)


def verdict(row: Mapping[str, Any], decided_by: str, who: str) -> str:
    """Say in one sentence what an own adapter did."""
    gain = row["gain"][decided_by]
    name = SCORE_NAMES[decided_by]
    share = row.get("faithfulness_share")
    if fooled(row, decided_by):
        return (
            f"The reward was fooled: for {who} it rose by {row['gain']['reward']['estimate']:.2f} while the {name} "
            f"fell by {-gain['estimate']:.2f}; do not use this adapter."
        )
    if gain["high"] < 0:
        return f"The own adapter lowered the {name} for {who} by {_range(gain)}; do not use this adapter."
    if gain["low"] <= 0:
        return f"No clear gain for {who}: the {name} changed by {_range(gain)}, an interval that reaches 0."
    text = (
        f"The own adapter raised the {name} for {who} by {_range(gain)} and won {row['win_over_base']['estimate']:.0%} "
    )
    text += "of pairs against the base"
    if "win_over_other" in row:
        text += f", {row['win_over_other']['estimate']:.0%} against another person's adapter"
    if share is not None and share < FAITHFUL_ENOUGH:
        return text + f"; but it shows what was asked only {share:.0%} as often as the base, so it steered too far."
    return text + "."


def overall_verdict(summary: Mapping[str, Any]) -> str:
    """Say in one sentence what adapters did over all people."""
    count = len(summary["users"])
    who = "one person" if count == 1 else f"the average of {count} people"
    return verdict(summary["overall"][OWN], summary["decided_by"], who)


def arm_title(arm: str) -> str:
    """Name an arm for readers."""
    return {"base": "Base model", OWN: "Own adapter", OTHER: "Another's adapter"}.get(arm, arm)


def _range(interval: Mapping[str, float]) -> str:
    return f"{interval['estimate']:+.2f} [{interval['low']:+.2f}, {interval['high']:+.2f}]"
