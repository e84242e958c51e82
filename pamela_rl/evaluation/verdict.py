"""One-sentence conclusions from a comparison, for one user and for all."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pamela_rl.evaluation.compare import BASE, OTHER, OWN, PRIMARY_SCORES

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
    "sft": "SFT on rated images",
    "dpo": "DPO on rated images",
}
_STEERED = (
    OWN,
    "prompt_search",
    "best_of_n",
    "noise_search",
    "rewriter",
)  # the verdict is about the first available one


USE_STRENGTH = "To draw at a strength: pipe.set_adapters(name, strength), after the adapter is loaded."


def score_name(name: str) -> str:
    """Return the display name of a score."""
    return _SCORES.get(name, name)


def arm_title(arm: str) -> str:
    """Return the display name of an arm."""
    return _ARMS.get(arm, arm)


def strength_title(strength: float) -> str:
    """Return the display name of a strength, with the arm it is."""
    arms = {0.0: "base model", 1.0: "as trained"}
    return f"{strength:g} ({arms[strength]})" if strength in arms else f"{strength:g}"


def steered_arm(rows: Mapping[str, Any]) -> str | None:
    """Return the arm that the verdict is about, or None where only the base is available."""
    return next((arm for arm in (*_STEERED, *rows) if arm in rows and arm != BASE), None)


def is_reward_hacked(row: Mapping[str, Any], primary_score: str) -> bool:
    """Tell whether the reward's gain is above 0 (by its interval) while the primary score's is not."""
    gain = row["gain"]
    reward_rose = "reward" in gain and _above(gain["reward"])
    high = gain[primary_score]["high"]
    return bool(primary_score != "reward" and reward_rose and high is not None and high <= 0)


def verdict(row: Mapping[str, Any], primary_score: str, who: str, arm: str = OWN) -> str:
    """Describe in one sentence what an arm gained."""
    gain = row["gain"][primary_score]
    name, what = score_name(primary_score), arm_title(arm)
    subject = f"The {what[0].lower()}{what[1:]}" if arm == OWN else what
    advice = "do not use this adapter" if arm == OWN else "do not use this arm"
    if gain["low"] is None:
        return (
            f"{subject} changed the {name} for {who} by {gain['estimate']:+.2f}; one prompt cannot tell a gain from "
            "chance, so compare on more."
        )
    if is_reward_hacked(row, primary_score):
        return (
            f"Reward hacking: for {who} the reward rose by {row['gain']['reward']['estimate']:.2f} while the {name} "
            f"fell by {-gain['estimate']:.2f}; {advice}."
        )
    if gain["high"] < 0:
        return f"{subject} lowered the {name} for {who} by {_range(gain)}; {advice}."
    if gain["low"] <= 0:
        return f"No clear gain for {who}: the {name} changed by {_range(gain)}, an interval that reaches 0."
    text = f"{subject} raised the {name} for {who} by {_range(gain)}{_beside(row, primary_score)} and won "
    text += f"{row['win_over_base']['estimate']:.0%} of pairs against the base"
    if "win_over_other" in row:
        text += f", {row['win_over_other']['estimate']:.0%} against another person's adapter"
    return text + _faithfulness_warning(row) + "."


def _beside(row: Mapping[str, Any], primary_score: str) -> str:
    """Name the gain of the next score that decides, e.g. the judge's beside the true rating's."""
    name = next((name for name in gains_shown(row) if name != primary_score), None)
    return "" if name is None else f" ({score_name(name)} {row['gain'][name]['estimate']:+.2f})"


def gains_shown(row: Mapping[str, Any]) -> list[str]:
    """Return the scores whose gains are shown: the one that decides, and the next that would decide without it."""
    return [name for name in PRIMARY_SCORES if name in row["gain"]][:2]


def _faithfulness_warning(row: Mapping[str, Any]) -> str:
    share, change = row.get("faithfulness_share"), row["gain"].get("faithfulness")
    if share is not None:
        if share >= MIN_FAITHFULNESS_SHARE:
            return ""
        return f"; but it shows what was asked only {share:.0%} as often as the base"
    if change is None or change["high"] is None or change["high"] >= 0:
        return ""
    before = row["faithfulness"]["estimate"] - change["estimate"]
    return f"; but its score of faithfulness to the prompts changed by {_range(change)}, from {before:.2f}"


def self_judging_note(summary: Mapping[str, Any]) -> str | None:
    """Return a warning where the reward that was maximised is the only score that tells of success."""
    if summary["primary_score"] != "reward":
        return None
    return (
        "The reward judges itself: these gains are told by the reward that was maximised, and there is no judge, so they may "
        "be reward hacking. Let people choose between images without knowing the arms:"
    )


def flagged_note(summary: Mapping[str, Any]) -> str | None:
    """Count the images that the base model's safety checker flags; None where it has none."""
    rows = {arm: row["images_flagged"] for arm, row in summary["overall"].items() if "images_flagged" in row}
    if not rows:
        return None
    counts = ", ".join(f"{arm_title(arm)} {flagged:,} of {images:,}" for arm, (flagged, images) in rows.items())
    return (
        "The base model's safety checker, which would blacken images, is off here as it is in training. Images it flags: "
        f"{counts}."
    )


def blind_test_command(run: Path) -> str:
    """Return the command that makes the blind test of a comparison, ready for a shell."""
    return f"pamela blind-test --run {shlex.quote(str(run))} --output_dir {shlex.quote(str(run / 'blind_test'))}"


def overall_verdict(summary: Mapping[str, Any]) -> str:
    """Describe in one sentence what steering gained over all users."""
    users = list(summary["users"])
    who = users[0] if len(users) == 1 else f"the average of {len(users)} people"
    arm = steered_arm(summary["overall"])
    if arm is None:
        return "Only the base model was drawn."
    return verdict(summary["overall"][arm], summary["primary_score"], who, arm)


def interval_meaning(num_users: int) -> str:
    """Say what the intervals of a comparison of some users are over."""
    if num_users == 1:
        return "95 % interval over prompts, for this person alone; it says nothing of other people."
    return (
        "95 % interval over people and prompts, as both were drawn by chance (crossed random effects, Student's t); in the "
        "tables of one person over prompts."
    )


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


def _above(interval: Mapping[str, float | None]) -> bool:
    return interval["low"] is not None and interval["low"] > 0


def _range(interval: Mapping[str, float]) -> str:
    return f"{interval['estimate']:+.2f} [{interval['low']:+.2f}, {interval['high']:+.2f}]"
