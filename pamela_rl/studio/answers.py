"""What people say to questions: stored once, in order, taken back step by step, and read as what a reward learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.access import of, owned
from pamela_rl.studio.database.schema import (
    ANSWERED,
    LIVE_QUESTION,
    REASONS,
    SAID,
    Answer,
    Person,
    Picture,
    Question,
    now,
)
from pamela_rl.studio.web.strings import say

LOWEST, HIGHEST = 1, 5
NO_DIFFERENCE = -1


class AnsweredOtherwise(PamelaError):
    """The question has another answer already."""


@dataclass(frozen=True)
class Said:
    """What somebody says to a question.

    Attributes:
        said: One of ``SAID``.
        value: The rating, or ``NO_DIFFERENCE``; None for anything else.
        picture: Id of the picture that is chosen or excluded.
        reason: Of an exclusion, one of ``REASONS``.
    """

    said: str
    value: float | None = None
    picture: str | None = None
    reason: str | None = None


def give(session: Session, person_id: str, question_id: str, given: Said) -> Answer:
    """Store an answer; the same answer again is the one that is stored.

    Args:
        session: That changes; the answer is on disk when it ends.
        person_id: Who answers.
        question_id: Their question.
        given: The answer.

    Raises:
        NotFound: They were not asked this.
        AnsweredOtherwise: There is another answer.
        PamelaError: It does not answer the question.
    """
    _one_at_a_time(session, person_id)
    question = owned(session, Question, question_id, person_id)
    answer = _as_answer(question, given)
    if question.state == ANSWERED:
        before = session.scalar(of(Answer, person_id).where(Answer.question_id == question_id))
        if before is None or _content(before) != _content(answer):
            raise AnsweredOtherwise(say("answers.otherwise"))
        return before
    answer.number = next_number(session, person_id)
    question.state = ANSWERED
    session.add(answer)
    if answer.said == "exclude":
        exclude(session, person_id, answer.picture_ids[0], answer.reason)
    session.flush()
    return answer


def undo(session: Session, person_id: str) -> Answer | None:
    """Take back the newest answer that stands, and ask its question again before all others; None where there is none.

    Args:
        session: That changes.
        person_id: Whose answer.
    """
    _one_at_a_time(session, person_id)
    stands = of(Answer, person_id).where(Answer.undone.is_(None), Answer.source == "studio")
    answer = session.scalar(stands.order_by(Answer.number.desc()).limit(1))
    if answer is None:
        return None
    answer.undone = now()
    question = session.get_one(Question, answer.question_id)
    if answer.said == "exclude":
        owned(session, Picture, answer.picture_ids[0], person_id).excluded = None
    first = session.scalar(
        select(func.min(Question.created)).where(Question.person_id == person_id, Question.state == LIVE_QUESTION)
    )
    session.add(
        Question(
            person_id=person_id,
            kind=question.kind,
            picture_ids=question.picture_ids,
            at_random=question.at_random,
            created=(first or now()) - timedelta(milliseconds=1),
        )
    )
    session.flush()
    return answer


def exclude(session: Session, person_id: str, picture_id: str, reason: str | None) -> None:
    """Never ask about a picture again; open questions that show it are withdrawn."""
    owned(session, Picture, picture_id, person_id).excluded = reason
    for question in session.scalars(of(Question, person_id).where(Question.state == LIVE_QUESTION)):
        if picture_id in question.picture_ids:
            session.delete(question)


def next_number(session: Session, person_id: str) -> int:
    """Return the number of a person's next answer; nobody else gets it until the session ends."""
    _one_at_a_time(session, person_id)
    return 1 + (session.scalar(select(func.max(Answer.number)).where(Answer.person_id == person_id)) or 0)


def count_answers(session: Session, person_id: str) -> int:
    """Count the ratings and choices that stand."""
    return session.scalar(select(func.count()).select_from(_standing(person_id).subquery())) or 0


def read_answers(session: Session, person_id: str, after: int = 0) -> list[Answer]:
    """Return the ratings and choices that stand, in order, without those about excluded pictures.

    Args:
        session: Of the database.
        person_id: Whose.
        after: Number of the last one that is known already.
    """
    excluded = set(
        session.scalars(select(Picture.id).where(Picture.person_id == person_id, Picture.excluded.is_not(None)))
    )
    found = session.scalars(_standing(person_id).where(Answer.number > after).order_by(Answer.number))
    return [answer for answer in found if not excluded.intersection(answer.picture_ids)]


def comparisons(answer: Answer) -> list[tuple[str, str, float]]:
    """Return a choice as pairs ``(a, b, outcome)``: 1 where a was chosen, one half for no difference.

    The best of four is three pairs: it was chosen over each of the others.
    """
    pictures, value = answer.picture_ids, int(answer.value or 0)
    if value == NO_DIFFERENCE:
        return [(a, b, 0.5) for a, b in combinations(pictures, 2)]
    return [(pictures[value], other, 1.0) for place, other in enumerate(pictures) if place != value]


def learn_from_blind(session: Session, person_id: str, pairs: Sequence[tuple[str, str, int]]) -> int:
    """Store choices of a blind test as answers, marked as such; return how many.

    Args:
        session: That changes.
        person_id: Whose.
        pairs: Ids of the pictures on the left and on the right, and 0, 1 or ``NO_DIFFERENCE``.
    """
    for number, (left, right, value) in enumerate(pairs, next_number(session, person_id)):
        session.add(
            Answer(
                person_id=person_id,
                number=number,
                said="choice",
                picture_ids=[left, right],
                value=value,
                source="blind",
            )
        )
    session.flush()
    return len(pairs)


def _standing(person_id: str) -> Select[Answer]:
    return of(Answer, person_id).where(Answer.undone.is_(None), Answer.said.in_(("rating", "choice")))


def _one_at_a_time(session: Session, person_id: str) -> None:
    """Let a person's answers get their numbers one after the other; SQLite has one writer anyway."""
    session.execute(select(Person.id).where(Person.id == person_id).with_for_update())


def _content(answer: Answer) -> tuple[object, ...]:
    return answer.said, answer.value, answer.reason, answer.picture_ids


def _as_answer(question: Question, given: Said) -> Answer:
    """Check what is said against the question."""
    pictures, value = list(question.picture_ids), None
    if given.said not in SAID:
        raise PamelaError(say("answers.said", allowed=", ".join(SAID)))
    if given.said in ("rating", "choice") and (given.said == "rating") != (question.kind == "rating"):
        raise PamelaError(say("answers.another_kind"))
    if given.picture is not None and given.picture not in pictures:
        raise PamelaError(say("answers.another_picture"))
    if given.said == "rating":
        if given.value is None or given.value not in range(LOWEST, HIGHEST + 1):
            raise PamelaError(say("answers.value", low=LOWEST, high=HIGHEST))
        value = float(given.value)
    elif given.said == "choice":
        if given.picture is None and given.value != NO_DIFFERENCE:
            raise PamelaError(say("answers.none_chosen"))
        value = float(NO_DIFFERENCE if given.picture is None else pictures.index(given.picture))
    elif given.said == "exclude":
        if given.reason not in REASONS:
            raise PamelaError(say("answers.reason", allowed=", ".join(REASONS)))
        if given.picture is None and len(pictures) > 1:
            raise PamelaError(say("answers.which_picture"))
        pictures = [given.picture or pictures[0]]
    return Answer(
        person_id=question.person_id,
        question_id=question.id,
        said=given.said,
        picture_ids=pictures,
        value=value,
        reason=given.reason if given.said == "exclude" else None,
        at_random=question.at_random,
    )
