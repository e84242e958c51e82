"""Results of a blind test: pairwise win rates and Elo with intervals, per user and overall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pamela_rl.errors import DataError
from pamela_rl.evaluation.blind_choices import BlindTestChoices, Choice
from pamela_rl.evaluation.bradley_terry import elo
from pamela_rl.evaluation.verdict import arm_title
from pamela_rl.intervals import share_interval


def summarize_choices(results: Sequence[BlindTestChoices]) -> dict[str, Any]:
    """Summarize choices as win rates and Elo.

    Of a repeated pair the first choice counts; the second only measures consistency. Win rates weigh users equally, Elo
    weighs choices equally; 95 % intervals are over users and prompts, of one user over prompts, None where there is none.

    Returns:
        ``{"arms", "users": {user_id: row}, "overall": row}``, ready for JSON. A row holds ``num_choices``,
        ``num_open``, ``ties`` and ``left`` (shares of choices), ``repeated`` and ``same`` (repeated pairs, and those with
        the same choice), ``wins`` ({arm: {other: interval}}, a tie one half) and ``elo`` ({arm: interval}).

    Raises:
        DataError: There is no choice of a pair shown for the first time.
    """
    arms = sorted({arm for result in results for choice in result.choices for arm in (choice.left, choice.right)})
    if not arms:
        raise DataError("nobody answered a pair that counts; ask people to go through their page.")
    users = {result.user_id: _row([result], arms) for result in results if result.choices}
    return {"arms": arms, "users": users, "overall": _row([result for result in results if result.choices], arms)}


def _row(results: Sequence[BlindTestChoices], arms: Sequence[str]) -> dict[str, Any]:
    choices = [choice for result in results for choice in result.choices]
    users = np.array([row for row, result in enumerate(results) for _ in result.choices], dtype=np.int64)
    prompts = np.unique([choice.prompt for choice in choices], return_inverse=True)[1]
    left, right = (np.array([arms.index(c) for c in side]) for side in zip(*((c.left, c.right) for c in choices)))
    scores = np.array([_score(choice, choice.left) for choice in choices])
    wins: dict[str, dict[str, Any]] = {arm: {} for arm in arms}
    for arm in arms:
        for other in arms:
            rows = [n for n, c in enumerate(choices) if {c.left, c.right} == {arm, other}]
            if rows:
                scores_of_arm = np.array([_score(choices[n], arm) for n in rows])
                interval = share_interval(scores_of_arm, users[rows], prompts[rows])
                wins[arm][other] = {**interval.to_json(), "num_choices": len(rows)}
    repeated = [pair for result in results for pair in result.repeated]
    intervals = elo(scores, left, right, users, prompts, len(arms))
    return {
        "num_choices": len(choices),
        "num_open": sum(result.num_open for result in results),
        "ties": float(np.mean([choice.winner is None for choice in choices])),
        "left": float(np.mean([choice.answer == "left" for choice in choices])),
        "repeated": len(repeated),
        "same": sum(first.winner == second.winner for first, second in repeated),
        "wins": wins,
        "elo": {arm: interval.to_json() for arm, interval in zip(arms, intervals)},
    }


def _score(choice: Choice, arm: str) -> float:
    return 0.5 if choice.winner is None else float(choice.winner == arm)


def choices_table(summary: Mapping[str, Any]) -> str:
    """Format Elo and pairwise win rates over all users, then one line per user, for a terminal."""
    arms = sorted(summary["arms"], key=lambda arm: -summary["overall"]["elo"][arm]["estimate"])
    overall = summary["overall"]
    width = max(len("user"), *(len(text) for text in [*map(arm_title, arms), *summary["users"]]))
    columns = [max(16, len(arm_title(arm))) for arm in arms]
    heads = "  ".join(f"{arm_title(arm):>{size}}" for arm, size in zip(arms, columns))
    lines = [f"{'':{width}}  {'Elo (95 %)':>17}   wins against:", f"{'':{width}}  {'':17}  {heads}"]
    for arm in arms:
        cells = [_percent(overall["wins"][arm].get(other)) for other in arms]
        row = "  ".join(f"{cell:>{size}}" for cell, size in zip(cells, columns))
        lines.append(f"{arm_title(arm):{width}}  {_points(overall['elo'][arm]):>17}  {row}")
    best = " ".join(f"{f'Elo of {arm_title(arm)}':>{max(20, len(arm_title(arm)) + 7)}}" for arm in arms)
    lines += ["", f"{'user':{width}}  choices  open  ties  left  consistent {best}"]
    everyone = [("everyone", overall)] if len(summary["users"]) > 1 else []
    for user, row in [*summary["users"].items(), *everyone]:
        consistent = f"{row['same']} of {row['repeated']}" if row["repeated"] else "-"
        points = " ".join(f"{_points(row['elo'][arm]):>{max(20, len(arm_title(arm)) + 7)}}" for arm in arms)
        lines.append(
            f"{user:{width}}  {row['num_choices']:7}  {row['num_open']:4}  {row['ties']:4.0%}  {row['left']:4.0%}"
            f"  {consistent:>10} {points}"
        )
    return "\n".join(lines)


def _points(interval: Mapping[str, float | None]) -> str:
    if interval["low"] is None or interval["high"] is None:
        return f"{interval['estimate']:.0f}"
    return f"{interval['estimate']:.0f} [{interval['low']:.0f}, {interval['high']:.0f}]"


def _percent(interval: Mapping[str, float | None] | None) -> str:
    if interval is None:
        return "-"
    if interval["low"] is None or interval["high"] is None:
        return f"{interval['estimate']:.0%}"
    return f"{interval['estimate']:.0%} [{interval['low']:.0%}, {interval['high']:.0%}]"
