"""A blind test as it is answered: the next pair, and in the end what the choices say."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pamela_rl.errors import PamelaError
from pamela_rl.studio.answers import NO_DIFFERENCE, learn_from_blind
from pamela_rl.studio.database.access import of, owned
from pamela_rl.studio.database.schema import BlindPair, Job
from pamela_rl.studio.web.strings import say

OWN = "own"
VALUES = {"left": 0, "right": 1, "tie": NO_DIFFERENCE}


def next_pair(session: Session, job: Job) -> BlindPair | None:
    """Return the first pair without a choice, or None."""
    return session.scalar(
        of(BlindPair, job.person_id)
        .where(BlindPair.job_id == job.id, BlindPair.chosen.is_(None))
        .order_by(BlindPair.number)
        .limit(1)
    )


def count_pairs(session: Session, job: Job) -> int:
    """Count the pairs of a comparison."""
    return session.scalar(select(func.count()).where(BlindPair.job_id == job.id)) or 0


def choose(session: Session, job: Job, pair_id: str, chosen: str) -> None:
    """Store a choice; the last one about a pair counts.

    Raises:
        NotFound: The pair is not this person's.
        PamelaError: It is of another comparison, or this is no choice.
    """
    pair = owned(session, BlindPair, pair_id, job.person_id)
    if pair.job_id != job.id:
        raise PamelaError(say("blind.not_this_pair"))
    if chosen not in VALUES:
        raise PamelaError(say("blind.chosen"))
    pair.chosen = chosen


def back(session: Session, job: Job) -> None:
    """Take the last choice back.

    Raises:
        PamelaError: There is none.
    """
    answered = of(BlindPair, job.person_id).where(BlindPair.job_id == job.id, BlindPair.chosen.is_not(None))
    last = session.scalar(answered.order_by(BlindPair.number.desc()).limit(1))
    if last is None:
        raise PamelaError(say("blind.nothing_back"))
    last.chosen = None


def learn(session: Session, job: Job) -> int:
    """Let choices become answers that the reward learns from, marked as such, once; return how many.

    Raises:
        PamelaError: Some pairs are open, or it was done already.
    """
    pairs = list(
        session.scalars(of(BlindPair, job.person_id).where(BlindPair.job_id == job.id).order_by(BlindPair.number))
    )
    if not pairs or any(pair.chosen is None for pair in pairs):
        raise PamelaError(say("blind.not_done"))
    if job.progress.get("learned"):
        raise PamelaError(say("blind.learned_already"))
    job.progress = {**job.progress, "learned": True}
    return learn_from_blind(session, job.person_id, [(p.left_id, p.right_id, VALUES[str(p.chosen)]) for p in pairs])


def results(session: Session, job: Job) -> dict[str, Any] | None:
    """Return how often one's own adapter was chosen over each other arm; None until all pairs are answered."""
    pairs = list(
        session.scalars(of(BlindPair, job.person_id).where(BlindPair.job_id == job.id).order_by(BlindPair.number))
    )
    if not pairs or any(pair.chosen is None for pair in pairs):
        return None
    from scipy.stats import beta

    from pamela_rl.evaluation.blind_choices import BlindTestChoices, Choice
    from pamela_rl.evaluation.blind_results import summarize_choices
    from pamela_rl.intervals import LEVEL

    choices = [
        Choice(job.person_id, pair.prompt, pair.number, pair.left_arm, pair.right_arm, str(pair.chosen))
        for pair in pairs
    ]
    wins = summarize_choices([BlindTestChoices(job.person_id, tuple(choices), (), 0)])["overall"]["wins"][OWN]
    rows, sentences = [], []
    for arm, found in wins.items():
        of_arm, low, high = found["num_choices"], found["low"], found["high"]
        won = round(2 * found["estimate"] * of_arm) / 2  # no difference is half a win
        share = won / of_arm
        if low is None:  # all won, or all lost: what else could have come of it, every share as likely beforehand
            likely = beta(1 + share * of_arm, 1 + (1 - share) * of_arm)
            low, high = float(likely.ppf((1 - LEVEL) / 2)), float(likely.ppf((1 + LEVEL) / 2))
        rows.append({"arm": arm, "wins": won, "of": of_arm, "share": share, "low": low, "high": high})
        key = "better" if low > 0.5 else "worse" if high < 0.5 else "unclear"
        sentences.append(say(f"blind.{key}", arm=say(f"blind.against_{arm}"), wins=f"{won:g}", of=of_arm))
    return {"rows": rows, "sentence": " ".join(sentences)}
