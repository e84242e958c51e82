"""The one way a person's rows are read: with the person's id beside the row's."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.schema import Answer, BlindPair, Job, Picture, Question, TrainedAdapter

Owned = TypeVar("Owned", Picture, Question, Answer, Job, TrainedAdapter, BlindPair)


class NotFound(PamelaError, LookupError):
    """There is no such thing, or it is another's: which of the two is not told."""

    __str__ = Exception.__str__

    def __init__(self) -> None:
        super().__init__("There is no such thing here.")


def owned(session: Session, table: type[Owned], id: Any, person_id: str, *, lock: bool = False) -> Owned:
    """Return a person's row.

    Args:
        session: Of the database.
        table: Of which.
        id: The row's.
        person_id: Whose it must be.
        lock: Hold it until the session ends; PostgreSQL only, SQLite has one writer anyway.

    Raises:
        NotFound: There is none, or it is another person's.
    """
    query = of(table, person_id).where(table.id == id)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound
    return row


def of(table: type[Owned], person_id: str) -> Select[Owned]:
    """Return the query for a person's rows of one table."""
    return select(table).where(table.person_id == person_id)
