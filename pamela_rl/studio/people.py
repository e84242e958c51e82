"""Who takes part: invited with a token that is shown once, and removed with everything that came from them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from pamela_rl.studio.database.schema import Person

FIRST = "me"


def ensure_first(session: Session, *, is_admin: bool = True) -> Person:
    """Return the person who was here first; make them where nobody is yet."""
    person = session.scalar(select(Person).order_by(Person.created).limit(1))
    if person is None:
        person = Person(name=FIRST, is_admin=is_admin)
        session.add(person)
        session.flush()
    return person
