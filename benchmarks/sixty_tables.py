"""Tables of what came of a few ratings: along strength, and at equal diversity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pamela_rl.intervals import mean_interval, share_interval


def interval(rows: list[dict[str, Any]], strength: str, score: str, share: bool = False) -> str:
    """Format the paired mean gain over the base, or the share of wins, with a 95 % interval."""
    gains = [np.subtract(row["strengths"][strength][score], row["strengths"]["0"][score]) for row in rows]
    prompts = np.concatenate([np.arange(len(gain)) * 16 // len(gain) for gain in gains])
    users = np.repeat(np.arange(len(gains)), [len(gain) for gain in gains])
    values = np.concatenate(gains)
    values = (values > 0) + 0.5 * (values == 0) if share else values
    found = (share_interval if share else mean_interval)(values, users, prompts)
    low, high = (float("nan") if end is None else end for end in (found.low, found.high))
    return f"{100 * found.estimate:.0f} %" if share else f"{found.estimate:+.2f} [{low:+.2f}, {high:+.2f}]"


def show(rows: list[dict[str, Any]], strengths: tuple[str, ...]) -> None:
    """Print one line an arm and strength."""
    print(f"{'arm':24} people strength {'true rating':21} wins faithful (min)  diversity (base)  reward seconds")
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        for strength in strengths:
            faithful = [
                np.mean(row["strengths"][strength]["faithfulness"]) / np.mean(row["strengths"]["0"]["faithfulness"])
                for row in mine
            ]
            spread = [np.mean([row["strengths"][s]["diversity"] for row in mine]) for s in (strength, "0")]
            reward = np.mean([np.mean(row["strengths"][strength]["reward"]) for row in mine])
            print(
                f"{arm:24} {len(mine):6} {strength:>8} {interval(mine, strength, 'true_rating'):21} "
                f"{interval(mine, strength, 'true_rating', share=True):>4} {np.mean(faithful):8.2f} ({min(faithful):.2f}) "
                f"{spread[0]:10.3f} ({spread[1]:.3f})  {reward:6.2f} {np.mean([row['seconds'] for row in mine]):7.0f}"
            )


def at_diversity(rows: list[dict[str, Any]], wanted: float) -> NDArray[np.float64] | None:
    """Return every image's true rating where the mean diversity over people is as wanted, ``(people, images)``.

    Between two strengths both are interpolated; None where no strength reaches so far.
    """
    strengths = sorted(rows[0]["strengths"], key=float)
    spread = [float(np.mean([row["strengths"][s]["diversity"] for row in rows])) for s in strengths]
    ratings = [np.array([row["strengths"][s]["true_rating"] for row in rows]) for s in strengths]
    for place in range(len(strengths) - 1):
        if spread[place] >= wanted > spread[place + 1]:
            share = (spread[place] - wanted) / (spread[place] - spread[place + 1])
            return (1 - share) * ratings[place] + share * ratings[place + 1]
    return None


def show_at_equal_diversity(rows: list[dict[str, Any]], arms: list[str]) -> None:
    """Print how much better the first arm's images are than the others' at the same diversity, paired."""
    by_arm = {arm: sorted((row for row in rows if row["arm"] == arm), key=lambda row: str(row["user"])) for arm in arms}
    for other in arms[1:]:
        for wanted in (0.24, 0.22, 0.20, 0.18):
            first, second = (at_diversity(by_arm[arm], wanted) for arm in (arms[0], other))
            if first is None or second is None:
                continue
            gain = first - second
            users, prompts = np.indices(gain.shape)
            found = mean_interval(gain.ravel(), users.ravel(), prompts.ravel() * 16 // gain.shape[1])
            base = np.array([row["strengths"]["0"]["true_rating"] for row in by_arm[other]])
            print(
                f"diversity {wanted:.2f}: {arms[0]} {first.mean() - base.mean():+.2f}, {other} "
                f"{second.mean() - base.mean():+.2f}, between them {found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
            )
