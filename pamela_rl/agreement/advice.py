"""What measures of a reward mean, in words: whether it is worth training against, and what would make it better."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pamela_rl.agreement.compare_models import Results
from pamela_rl.agreement.measures import Array, Score
from pamela_rl.agreement.per_user import agreement
from pamela_rl.rewards.settings import MAIN_MODEL

MAX_USERS = 10  # that are told of one by one
SLIGHT = 0.02  # of a correlation or a share: what twice the answers bring is then too little to be worth them


def advice(results: Results) -> list[str]:
    """Say of every user, or of the mean of many, how well the main model foretells them, and what to do about it.

    Args:
        results: Of models that were measured on them.
    """
    lines = list(_of_users(results)) if MAIN_MODEL in results.predicted else []
    if MAIN_MODEL in results.choices:
        score = results.choices[MAIN_MODEL]
        foretold = f"{score[0]:.0%}{_interval(score, '.0%')}"
        lines.append(
            f"The reward foretells {foretold} of choices between images it was not shown, where chance is 50 %: "
            + _worth(score, 0.5)
        )
    if results.half is not None and np.isfinite(results.half):
        rows = [row for rows in results.agreements.values() for row in rows if row.name == MAIN_MODEL]
        full = rows[0].srocc if rows else results.choices[MAIN_MODEL]
        lines.append(_more(results.half, full[0], "rank correlation" if rows else "share of choices foretold"))
    return lines


def _of_users(results: Results) -> Iterator[str]:
    held_out = results.held_out
    assert held_out is not None
    mean, _ = results.predicted[MAIN_MODEL]
    whole = [row for rows in results.agreements.values() for row in rows if row.name == MAIN_MODEL]
    actual, users = held_out.ratings.numpy(), held_out.user_ids
    names = [str(user) for user in np.unique(users)]
    if len(names) > MAX_USERS:
        row = agreement(MAIN_MODEL, mean, actual, users)
        yield f"Over {row.num_users} people: " + _sentence(row.srocc, row.mae[0], _mean_errors(actual, users))
        return
    for name in names:
        mine = users == name
        row = whole[0] if len(names) == 1 and whole else agreement(name, mean[mine], actual[mine], users[mine])
        if row.num_users:
            yield f"{name}: " + _sentence(row.srocc, row.mae[0], _mean_errors(actual[mine], users[mine]))
        elif np.ptp(actual[mine]) == 0:
            yield f"{name} rated every image {actual[mine][0]:g}, so nothing tells liked from not liked; rate some that differ."
        else:
            yield f"{name} has {mine.sum()} ratings, too few to measure the reward on; give at least 5, better 60."


def _sentence(srocc: Score, error: float, error_of_mean: float) -> str:
    return (
        f"on images it was not shown, the reward orders them with a rank correlation of {srocc[0]:.2f}"
        f"{_interval(srocc, '.2f')}, and errs by {error:.2f} points where the mean rating errs by {error_of_mean:.2f}: "
        + _worth(srocc, 0.0)
    )


def _worth(score: Score, chance: float) -> str:
    if score[1] > chance or (np.isnan(score[1]) and score[0] > chance):
        return "better than no taste at all, and worth training against."
    if score[0] > chance:
        return "not told from chance yet. Give more ratings before training against it."
    return "no better than chance. Do not train against it; give more ratings, or other images."


def _more(half: float, full: float, what: str) -> str:
    text = f"From half of the answers its {what} was {half:.2f}, from all it is {full:.2f}: "
    if full - half > SLIGHT:
        return text + f"twice as many would help again, by somewhat less than {full - half:.2f}."
    return text + "more answers of this kind would help little."


def _mean_errors(actual: Array, users: NDArray[np.object_]) -> float:
    """Return the mean error of giving every image the mean of the user's other ratings, rating points."""
    errors = []
    for user in np.unique(users):
        mine = actual[users == user]
        others = (mine.sum() - mine) / max(len(mine) - 1, 1)
        errors.append(np.abs(mine - others).mean())
    return float(np.mean(errors))


def _interval(score: Score, form: str) -> str:
    return "" if np.isnan(score[1]) else f" [{score[1]:{form}}, {score[2]:{form}}]"
