"""What to ask next: kept ready ahead of the answers, mostly what the reward learns most from, every fifth at random."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from pamela_rl.studio.database.access import of
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import (
    KINDS,
    LIVE_QUESTION,
    Answer,
    Person,
    Picture,
    Question,
    new_id,
    now,
)

READY_AHEAD = 3  # the question that is shown, the next one, whose picture is loaded already, and one more
BLIND_START = (
    3  # questions before one is chosen: what would teach most if tastes were linear is far from what most pictures are
)
RANDOM_SHARE = 5  # every fifth
NUM_CANDIDATES = 400  # pictures among which the next one is chosen
NUM_COMPARED = 40  # among which those are chosen that are compared next: the ones that were compared least
SIZES = {"rating": 1, "choice": 2, "best_of_four": 4}
SOURCES = {"own": ("upload", "import"), "drawn": ("base", "adapter"), "both": ("upload", "import", "base", "adapter")}

Chooser = Callable[[Sequence[Picture], int, Sequence[Question]], list[str] | None]
"""Chooses ids among pictures: of how many, and given the open questions; None where it cannot tell yet."""


@dataclass(frozen=True)
class Wishes:
    """How a person wants to be asked, as their settings say.

    Attributes:
        kind: One of ``KINDS``.
        source: "own", "drawn" or "both".
        prompts: What is drawn for them; none takes the studio's.
    """

    kind: str = KINDS[0]
    source: str = "both"
    prompts: tuple[str, ...] = ()

    @classmethod
    def of(cls, person: Person) -> Wishes:
        """Read a person's."""
        given = person.settings
        return cls(given.get("kind", KINDS[0]), given.get("source", "both"), tuple(given.get("prompts", ())))

    def to_json(self) -> dict[str, object]:
        """Return them as the person's settings keep them."""
        return {"kind": self.kind, "source": self.source, "prompts": list(self.prompts)}


def only_measures(picture_id: str) -> bool:
    """Tell whether a picture is one of those that are asked about at random, never because it teaches much."""
    return zlib.crc32(picture_id.encode()) % RANDOM_SHARE == 0


def open_questions(session: Session, person_id: str) -> list[Question]:
    """Return what a person is asked, the first one first."""
    asked = of(Question, person_id).where(Question.state == LIVE_QUESTION)
    return list(session.scalars(asked.order_by(Question.created, Question.id)))


def prepare(database: Database, person_id: str, choose: Chooser | None = None, count: int = READY_AHEAD) -> int:
    """Make questions until as many are open, and return how many are.

    Questions of another kind than the person wants by now are withdrawn, and those about pictures that are gone. What to ask
    is thought out before anything is changed, so that nobody's answer waits for it; call it once at a time for a person.

    Args:
        database: Of the studio.
        person_id: Whom to ask.
        choose: Chooses what teaches most; None chooses at random.
        count: Of open questions.
    """
    with database.session() as session:
        wishes = Wishes.of(session.get_one(Person, person_id))
        before = open_questions(session, person_id)
        asked = [question for question in before if _is_askable(session, question, wishes)]
        new: list[Question] = []
        for _ in range(count - len(asked)):
            question = _next_question(session, person_id, wishes, [*asked, *new], choose)
            if question is None:
                break
            new.append(question)
    withdrawn = [question.id for question in before if question not in asked]
    if new or withdrawn:
        with database.changing() as session:
            session.execute(delete(Question).where(Question.id.in_(withdrawn), Question.state == LIVE_QUESTION))
            for question in filter(lambda question: _is_askable(session, question, wishes), new):
                shown = Picture.id.in_(question.picture_ids)
                session.execute(update(Picture).where(shown).values(asked=Picture.asked + 1))
                session.add(question)
    return len(asked) + len(new)


def count_unasked(session: Session, person_id: str, source: str = "drawn") -> int:
    """Count the pictures that a person was never asked about."""
    return session.scalar(select(func.count()).select_from(_askable(person_id, source, 0).subquery())) or 0


def _is_askable(session: Session, question: Question, wishes: Wishes) -> bool:
    """Whether a question is still one that the person wants, about pictures that are still there."""
    there = select(func.count()).where(
        Picture.id.in_(question.picture_ids),
        Picture.person_id == question.person_id,
        Picture.excluded.is_(None),
        Picture.origin.in_(SOURCES[wishes.source]),
    )
    return question.kind == wishes.kind and session.scalar(there) == len(question.picture_ids)


def _next_question(
    session: Session, person_id: str, wishes: Wishes, asked: Sequence[Question], choose: Chooser | None
) -> Question | None:
    size, shown = SIZES[wishes.kind], {picture for question in asked for picture in question.picture_ids}
    again = 0 if size == 1 else None  # a picture is rated once, and compared as often as it takes
    query = _askable(person_id, wishes.source, again).order_by(Picture.asked, Picture.id).limit(NUM_CANDIDATES)
    candidates = [picture for picture in session.scalars(query) if picture.id not in shown]
    most = NUM_CANDIDATES if size == 1 else NUM_COMPARED
    parts = {flag: [p for p in candidates if only_measures(p.id) == flag][:most] for flag in (True, False)}
    at_random = _is_turn_of_random(session, person_id, asked)
    if len(parts[at_random]) < size:
        at_random = not at_random
    if len(parts[at_random]) < size:
        return None
    chosen = None if at_random or choose is None else choose(parts[False], size, asked)
    chosen = chosen or _at_random(parts[at_random], size)
    # times tell the order, also of questions that are made at once
    created = max([now(), *(question.created + timedelta(microseconds=1) for question in asked)])
    return Question(
        id=new_id(), person_id=person_id, kind=wishes.kind, picture_ids=chosen, at_random=at_random, created=created
    )


def _is_turn_of_random(session: Session, person_id: str, asked: Sequence[Question]) -> bool:
    """Whether a fifth of what stands or is asked would not be at random without this one."""
    stands = select(func.count(), func.count().filter(Answer.at_random)).where(
        Answer.person_id == person_id, Answer.undone.is_(None), Answer.source == "studio"
    )
    count, measuring = session.execute(stands).one()
    count, measuring = count + len(asked), measuring + sum(question.at_random for question in asked)
    return bool((count + 1) // RANDOM_SHARE > measuring)


def _askable(person_id: str, source: str, asked: int | None) -> Select[Picture]:
    wanted = of(Picture, person_id).where(Picture.excluded.is_(None), Picture.origin.in_(SOURCES[source]))
    return wanted if asked is None else wanted.where(Picture.asked == asked)


def _at_random(pictures: Sequence[Picture], size: int) -> list[str]:
    """Choose pictures by chance, every prompt as likely as another, however many pictures it has."""
    of_prompt = defaultdict(list)
    for picture in pictures:
        of_prompt[picture.prompt].append(picture.id)
    chosen: list[str] = []
    while len(chosen) < size:
        prompt = random.choice(list(of_prompt))
        chosen.append(of_prompt[prompt].pop(random.randrange(len(of_prompt[prompt]))))
        if not of_prompt[prompt]:
            del of_prompt[prompt]
    return chosen
