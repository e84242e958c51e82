"""What a blind test says: win rates of arm against arm and Elo with intervals, for each person and for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pamela_rl.errors import DataError
from pamela_rl.evaluation.blind_choices import Answers, Choice
from pamela_rl.evaluation.bradley_terry import elo
from pamela_rl.evaluation.statistics import bootstrap_mean
from pamela_rl.evaluation.verdict import arm_title


def summarize_answers(answers: Sequence[Answers]) -> dict[str, Any]:
    """Reduce answers to win rates and Elo.

    A pair that was shown again counts once, as it was answered first; the second answer only tells how consistent the
    person is. Win rates weigh people alike, Elo counts all choices alike; intervals are 95 % by bootstrap over people
    and, within each, prompts.

    Returns:
        ``{"arms", "users": {user_id: row}, "overall": row}``, ready for JSON. A row holds ``num_choices``,
        ``num_open``, ``ties`` and ``left`` (shares of choices), ``repeated`` and ``same`` (pairs answered twice, and
        alike), ``wins`` ({arm: {other: interval}}, a tie one half) and ``elo`` ({arm: interval}).

    Raises:
        DataError: Nobody chose anything but repetitions.
    """
    arms = sorted({arm for person in answers for choice in person.choices for arm in (choice.left, choice.right)})
    if not arms:
        raise DataError("nobody answered a pair that counts; ask people to go through their page.")
    users = {person.user_id: _row([person], arms) for person in answers if person.choices}
    return {"arms": arms, "users": users, "overall": _row([p for p in answers if p.choices], arms)}


def _row(people: Sequence[Answers], arms: Sequence[str]) -> dict[str, Any]:
    choices = [choice for person in people for choice in person.choices]
    users = np.array([row for row, person in enumerate(people) for _ in person.choices], dtype=np.int64)
    prompts = np.unique([choice.prompt for choice in choices], return_inverse=True)[1]
    left, right = (np.array([arms.index(c) for c in side]) for side in zip(*((c.left, c.right) for c in choices)))
    scores = np.array([_score(choice, choice.left) for choice in choices])
    wins: dict[str, dict[str, Any]] = {arm: {} for arm in arms}
    for arm in arms:
        for other in arms:
            met = [n for n, c in enumerate(choices) if {c.left, c.right} == {arm, other}]
            if met:
                won = np.array([_score(choices[n], arm) for n in met])
                wins[arm][other] = {**bootstrap_mean(won, users[met], prompts[met]).to_json(), "num_choices": len(met)}
    twice = [pair for person in people for pair in person.repeated]
    intervals = elo(scores, left, right, users, prompts, len(arms))
    return {
        "num_choices": len(choices),
        "num_open": sum(person.num_open for person in people),
        "ties": float(np.mean([choice.winner is None for choice in choices])),
        "left": float(np.mean([choice.answer == "left" for choice in choices])),
        "repeated": len(twice),
        "same": sum(first.winner == second.winner for first, second in twice),
        "wins": wins,
        "elo": {arm: interval.to_json() for arm, interval in zip(arms, intervals)},
    }


def _score(choice: Choice, arm: str) -> float:
    return 0.5 if choice.winner is None else float(choice.winner == arm)


def answers_table(summary: Mapping[str, Any]) -> str:
    """Lay out Elo, the win rates of arm against arm over all people, and one line a person, for a terminal."""
    arms = sorted(summary["arms"], key=lambda arm: -summary["overall"]["elo"][arm]["estimate"])
    overall = summary["overall"]
    width = max(len("person"), *(len(text) for text in [*map(arm_title, arms), *summary["users"]]))
    columns = [max(16, len(arm_title(arm))) for arm in arms]
    heads = "  ".join(f"{arm_title(arm):>{size}}" for arm, size in zip(arms, columns))
    lines = [f"{'':{width}}  {'Elo (95 %)':>17}   wins against:", f"{'':{width}}  {'':17}  {heads}"]
    for arm in arms:
        cells = [_percent(overall["wins"][arm].get(other)) for other in arms]
        row = "  ".join(f"{cell:>{size}}" for cell, size in zip(cells, columns))
        lines.append(f"{arm_title(arm):{width}}  {_points(overall['elo'][arm]):>17}  {row}")
    best = " ".join(f"{f'Elo of {arm_title(arm)}':>{max(20, len(arm_title(arm)) + 7)}}" for arm in arms)
    lines += ["", f"{'person':{width}}  choices  open  ties  left  same again {best}"]
    for user, row in [*summary["users"].items(), ("everyone", overall)]:
        again = f"{row['same']} of {row['repeated']}" if row["repeated"] else "-"
        points = " ".join(f"{_points(row['elo'][arm]):>{max(20, len(arm_title(arm)) + 7)}}" for arm in arms)
        lines.append(
            f"{user:{width}}  {row['num_choices']:7}  {row['num_open']:4}  {row['ties']:4.0%}  {row['left']:4.0%}"
            f"  {again:>10} {points}"
        )
    return "\n".join(lines)


def _points(interval: Mapping[str, float]) -> str:
    return f"{interval['estimate']:.0f} [{interval['low']:.0f}, {interval['high']:.0f}]"


def _percent(interval: Mapping[str, float] | None) -> str:
    return "-" if interval is None else f"{interval['estimate']:.0%} [{interval['low']:.0%}, {interval['high']:.0%}]"
