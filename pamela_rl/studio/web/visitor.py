"""Who asks: the studio as requests see it, and the person behind a request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import select

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Person, SignIn, now
from pamela_rl.studio.settings import StudioSettings

SIGNED_IN, HERE = "studio_session", "studio_here"  # cookies: with sign-in; without, who sits at the keyboard
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class NotSignedIn(PamelaError):
    """Nobody is signed in."""


class Refused(PamelaError):
    """The request may come from another site, or is not this person's to make."""


@dataclass
class Studio:
    """What every request can use.

    Attributes:
        settings: Of the studio.
        database: With everybody's rows.
        secret: From which CSRF tokens are made where nobody signs in.
        parts: What else lives as long as the server, by name.
    """

    settings: StudioSettings
    database: Database
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    parts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Visitor:
    """The person behind a request.

    Attributes:
        id: Theirs.
        name: Theirs.
        is_admin: Whether they may invite and remove people.
        csrf: What their requests that change something must carry.
    """

    id: str
    name: str
    is_admin: bool
    csrf: str


def the_studio(request: Request) -> Studio:
    """Return the studio that was asked."""
    studio: Studio = request.app.state.studio
    return studio


def current_person(request: Request, studio: Annotated[Studio, Depends(the_studio)]) -> Visitor:
    """Return who asks; a request that changes something must show that it comes from the studio's own page.

    Raises:
        NotSignedIn: Nobody is.
        Refused: The CSRF token is missing or wrong.
    """
    visitor = _at_the_keyboard(request, studio) if studio.settings.loopback else _signed_in(request, studio)
    if visitor is None:
        raise NotSignedIn("Sign in first.")
    sent = request.headers.get("x-csrf-token", "")
    if request.method not in SAFE_METHODS and not hmac.compare_digest(sent.encode(), visitor.csrf.encode()):
        raise Refused("This page is out of date; load it again.")
    request.state.person, request.state.csrf = visitor, visitor.csrf
    return visitor


def nobody_yet(request: Request) -> None:
    """Say to pages that are for everybody that no person is known."""
    request.state.person, request.state.csrf = None, ""


def cookie_digest(cookie: str) -> str:
    """Return what the database keeps of a cookie."""
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


def _signed_in(request: Request, studio: Studio) -> Visitor | None:
    cookie = request.cookies.get(SIGNED_IN)
    if not cookie:
        return None
    with studio.database.session() as session:
        found = session.execute(
            select(Person, SignIn.csrf)
            .join(SignIn, SignIn.person_id == Person.id)
            .where(SignIn.id == cookie_digest(cookie), SignIn.expires > now())
        ).first()
    return Visitor(found[0].id, found[0].name, found[0].is_admin, found[1]) if found else None


def _at_the_keyboard(request: Request, studio: Studio) -> Visitor | None:
    """Return the person chosen in this browser, or the first; on this machine alone everybody may do everything."""
    chosen = request.cookies.get(HERE, "")
    with studio.database.session() as session:
        person = session.get(Person, chosen) or session.scalar(select(Person).order_by(Person.created).limit(1))
    if person is None:
        return None
    csrf = hmac.new(studio.secret, person.id.encode(), hashlib.sha256).hexdigest()
    return Visitor(person.id, person.name, True, csrf)


Here = Annotated[Studio, Depends(the_studio)]
Me = Annotated[Visitor, Depends(current_person)]
