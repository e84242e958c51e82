"""Tables of the studio: people, their pictures and answers, jobs, adapters, blind tests, and who did what.

Ids are random and cannot be guessed, but nothing relies on that: every row of a person is only ever read with the person's
id beside it (:func:`pamela_rl.studio.database.access.owned`). Files lie in the studio's folder under names made of ids alone.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

LIVE_QUESTION, ANSWERED = "asked", "answered"
KINDS = ("rating", "choice", "best_of_four")  # of questions
SAID = ("rating", "choice", "skip", "cannot_say", "exclude")  # of answers
REASONS = ("broken", "not_mine", "off_topic")  # why a picture is excluded
ORIGINS = ("upload", "import", "base", "adapter", "blind")  # of pictures
JOBS = ("draw", "train", "compare", "search", "show", "fit")
STATES = ("waiting", "running", "paused", "cancelled", "done", "failed")


def new_id() -> str:
    """Return an id of 96 random bits, 16 characters of ``A-Z a-z 0-9 _ -``."""
    return secrets.token_urlsafe(12)


def now() -> datetime:
    """Return the time, UTC, without a zone, as every column of time keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class Table(DeclarativeBase):
    """The base of all tables; a mapping is kept as JSON."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012  (SQLAlchemy's own form)


class Person(Table):
    """Somebody who rates.

    Attributes:
        id: Random; also the person's user id in rewards and runs, and the name of their folder.
        name: As they want to be called; shown, never a path.
        token: Argon2 hash of what they sign in with; None where there is no sign-in.
        is_admin: May invite and remove people.
        settings: What they chose: how they are asked, their prompts, the base model.
        created: When they came.
    """

    __tablename__ = "people"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str]
    token: Mapped[str | None] = mapped_column(default=None)
    is_admin: Mapped[bool] = mapped_column(default=False)
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime] = mapped_column(default=now)


class SignIn(Table):
    """A browser that is signed in.

    Attributes:
        id: SHA-256 of the cookie, in hex: who reads the database cannot sign in with it.
        person_id: Who.
        csrf: What a request that changes something must say.
        expires: When it ends.
    """

    __tablename__ = "sign_ins"
    id: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    csrf: Mapped[str]
    expires: Mapped[datetime]


class Picture(Table):
    """A picture of one person's studio; its file is ``pictures/<person>/<id>.png``.

    Attributes:
        prompt: What it was made for, "" where that is not known.
        origin: One of ``ORIGINS``.
        adapter_id: That drew it, or None.
        seed: Of its noise, or None.
        digest: SHA-256 of its pixels, in hex; the same picture is not kept twice.
        excluded: Why it is never asked about again, one of ``REASONS``; None where it is not.
        asked: In how many questions it was; one that was rated elsewhere counts as asked once.
    """

    __tablename__ = "pictures"
    __table_args__ = (UniqueConstraint("person_id", "digest"), Index("pictures_to_ask", "person_id", "asked"))
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    prompt: Mapped[str] = mapped_column(default="")
    origin: Mapped[str]
    adapter_id: Mapped[str | None] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"), default=None)
    seed: Mapped[int | None] = mapped_column(BigInteger, default=None)
    width: Mapped[int]
    height: Mapped[int]
    digest: Mapped[str]
    excluded: Mapped[str | None] = mapped_column(default=None)
    asked: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(default=now)


class Feature(Table):
    """What an encoder sees in a picture, with its prompt: float32, little-endian.

    Attributes:
        encoder: The encoder's fingerprint.
        vector: ``(d,)``.
    """

    __tablename__ = "features"
    picture_id: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"), primary_key=True)
    encoder: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class Question(Table):
    """What a person was asked; it is answered once, however often a browser sends the answer.

    Attributes:
        kind: One of ``KINDS``.
        picture_ids: One picture, two, or four.
        at_random: Whether pictures were chosen blindly: answers to these alone measure how well the taste is known.
        state: "asked" or "answered".
    """

    __tablename__ = "questions"
    __table_args__ = (Index("questions_open", "person_id", "state"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"))
    kind: Mapped[str]
    picture_ids: Mapped[list[Any]]
    at_random: Mapped[bool]
    state: Mapped[str] = mapped_column(default=LIVE_QUESTION)
    created: Mapped[datetime] = mapped_column(default=now)


class Answer(Table):
    """What a person said, in order; nothing is overwritten, and undoing is a mark.

    Attributes:
        number: 1, 2, … of the person's answers.
        question_id: Of the question; unique, so that nothing is stored twice. None for what was imported.
        said: One of ``SAID``.
        picture_ids: Those it is about.
        value: The rating; for a choice the place of the picture that was chosen, counted from 0, or -1 for no difference.
        reason: Of an exclusion.
        at_random: As of the question.
        source: "studio", "blind" or "import".
        undone: When it was taken back, or None.
    """

    __tablename__ = "answers"
    __table_args__ = (UniqueConstraint("person_id", "number"), UniqueConstraint("question_id"))
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    question_id: Mapped[str | None] = mapped_column(ForeignKey("questions.id", ondelete="SET NULL"), default=None)
    said: Mapped[str]
    picture_ids: Mapped[list[Any]]
    value: Mapped[float | None] = mapped_column(default=None)
    reason: Mapped[str | None] = mapped_column(default=None)
    at_random: Mapped[bool] = mapped_column(default=False)
    source: Mapped[str] = mapped_column(default="studio")
    undone: Mapped[datetime | None] = mapped_column(default=None)
    created: Mapped[datetime] = mapped_column(default=now)


class Job(Table):
    """Something that takes long, done by a worker process; its folder is ``jobs/<person>/<id>``.

    Attributes:
        kind: One of ``JOBS``.
        state: One of ``STATES``.
        wish: "pause" or "cancel", which the worker heeds; None lets it go on.
        place: Order in the queue, the lowest first.
        settings: What is asked for, by the kind.
        progress: What is known of its course, by the kind: shares, seconds left, means.
        message: A sentence about how it ended or what it waits for.
        worker: Who does it.
        lease: Until when it is theirs; a worker that is alive renews it.
        attempts: Begun how often.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_waiting", "state", "place"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(default="waiting")
    wish: Mapped[str | None] = mapped_column(default=None)
    place: Mapped[float]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    message: Mapped[str] = mapped_column(default="")
    worker: Mapped[str | None] = mapped_column(default=None)
    lease: Mapped[datetime | None] = mapped_column(default=None)
    attempts: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None] = mapped_column(default=None)
    ended: Mapped[datetime | None] = mapped_column(default=None)


class Worker(Table):
    """A process that does jobs, here or on another machine.

    Attributes:
        id: Random; the ``worker`` of its jobs.
        device: What it draws and trains on, with the machine's name: a device has one running job.
        process: Its number on that machine.
        seen: When it last said that it is alive, every few seconds.
    """

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    device: Mapped[str]
    process: Mapped[int]
    seen: Mapped[datetime] = mapped_column(default=now)


class TrainedAdapter(Table):
    """An adapter that a training of a person made; its files are in the run of its job.

    Attributes:
        job_id: The training.
        begun_from: The adapter it went on from; None is the base model.
        round: 1, 2, … of the person's trainings.
        num_answers: That its reward had learned from.
        strength: That its card recommends.
    """

    __tablename__ = "adapters"
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    begun_from: Mapped[str | None] = mapped_column(ForeignKey("adapters.id", ondelete="SET NULL"), default=None)
    round: Mapped[int]
    num_answers: Mapped[int]
    strength: Mapped[float] = mapped_column(default=1.0)
    created: Mapped[datetime] = mapped_column(default=now)


class BlindPair(Table):
    """Two pictures of one prompt and noise, drawn in two ways that the page does not tell.

    Attributes:
        job_id: The comparison that drew them.
        number: Order in which they are shown.
        left_id: Picture on the left.
        right_id: Picture on the right.
        left_arm: How it was drawn: "own", "base", "search" or "other".
        right_arm: The same of the right one.
        chosen: "left", "right" or "tie"; None is not answered yet.
    """

    __tablename__ = "blind_pairs"
    __table_args__ = (Index("blind_pairs_of", "job_id", "number"),)
    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    prompt: Mapped[str]
    left_id: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"))
    right_id: Mapped[str] = mapped_column(ForeignKey("pictures.id", ondelete="CASCADE"))
    left_arm: Mapped[str]
    right_arm: Mapped[str]
    chosen: Mapped[str | None] = mapped_column(default=None)


class Event(Table):
    """The audit log: sign-ins, exports, deletions; it outlives the people in it.

    Attributes:
        person: Id of who did it, or was refused; "" where nobody is known.
        event: E.g. "signed in", "refused", "exported", "deleted".
        about: Ids and numbers, no text that a person typed.
        address: From where.
    """

    __tablename__ = "audit_log"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(default=now)
    person: Mapped[str]
    event: Mapped[str]
    about: Mapped[dict[str, Any]] = mapped_column(default=dict)
    address: Mapped[str] = mapped_column(default="")
