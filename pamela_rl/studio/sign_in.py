"""Signing in: a token of a person, kept as an Argon2 hash, for a cookie, kept as a digest."""

from __future__ import annotations

import hashlib
import secrets
import threading
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from pamela_rl.studio.database.schema import Person, SignIn, now

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LASTS = timedelta(days=30)
LONGEST = 200  # of a token, in characters
_ROOM = threading.Semaphore(2)  # hashes at once: each takes 64 MB


def give_token(person: Person) -> str:
    """Give a person a new token, which is not kept, and return it; an earlier one no longer works.

    It begins with the person's id, so that it can be found without trying everybody's hash.
    """
    token = f"{person.id}.{secrets.token_urlsafe(24)}"
    with _ROOM:
        person.token = _hasher().hash(token)
    return token


def who_has(session: Session, token: str) -> Person | None:
    """Return whose token it is, or None. It takes equally long for ids that there are and that there are not."""
    from argon2.exceptions import VerificationError

    person = session.get(Person, token.rpartition(".")[0]) if len(token) <= LONGEST else None
    kept = person.token if person and person.token else _nobodys()
    try:
        with _ROOM:
            _hasher().verify(kept, token[:LONGEST])
    except VerificationError:
        return None
    return person


def begin(session: Session, person: Person) -> str:
    """Sign a person in and return the cookie; sign-ins that have ended are forgotten."""
    session.execute(delete(SignIn).where(SignIn.expires <= now()))
    cookie = secrets.token_urlsafe(32)
    session.add(SignIn(id=digest(cookie), person_id=person.id, csrf=secrets.token_urlsafe(24), expires=now() + LASTS))
    return cookie


def signed_in(session: Session, cookie: str) -> tuple[Person, str] | None:
    """Return who has this cookie and their CSRF token, or None."""
    found = session.execute(
        select(Person, SignIn.csrf)
        .join(SignIn, SignIn.person_id == Person.id)
        .where(SignIn.id == digest(cookie), SignIn.expires > now())
    ).first()
    return (found[0], found[1]) if found else None


def end(session: Session, cookie: str) -> None:
    """Sign a browser out."""
    session.execute(delete(SignIn).where(SignIn.id == digest(cookie)))


def digest(cookie: str) -> str:
    """Return what the database keeps of a cookie."""
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobodys() -> str:
    return _hasher().hash(secrets.token_urlsafe(24))
