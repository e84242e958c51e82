"""Who asks: the studio as requests see it, and the person behind a request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from sqlalchemy import select

from pamela_rl.errors import PamelaError
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Event, Person
from pamela_rl.studio.people import everybody
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.sign_in import signed_in
from pamela_rl.studio.watch import Meter
from pamela_rl.studio.web.rates import Rates
from pamela_rl.studio.web.strings import say

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
        rates: How often somebody may ask.
        meter: What has been asked.
        parts: What else lives as long as the server, by name.
    """

    settings: StudioSettings
    database: Database
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    rates: Rates = field(default_factory=Rates)
    meter: Meter = field(default_factory=Meter)
    parts: dict[str, Any] = field(default_factory=dict)

    def changed(self, person_id: str) -> None:
        """Tell who remembers a person's pictures and answers that these are others now."""
        if "taste" in self.parts:
            self.parts["taste"].changed(person_id)

    def audit(self, person_id: str, event: str, request: Request, **about: Any) -> None:
        """Write into the log of sign-ins, exports and deletions; ids and numbers only."""
        address = request.client.host if request.client else ""
        with self.database.changing() as session:
            session.add(Event(person=person_id, event=event, about=about, address=address))


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
        HTTPException: They change things too often.
    """
    visitor = _at_the_keyboard(request, studio) if studio.settings.loopback else _signed_in(request, studio)
    if visitor is None:
        raise NotSignedIn(say("errors.not_signed_in"))
    request.state.person, request.state.csrf = visitor, visitor.csrf
    if request.method not in SAFE_METHODS:
        sent = request.headers.get("x-csrf-token", "")
        if not hmac.compare_digest(sent.encode(), visitor.csrf.encode()):
            raise Refused(say("errors.csrf"))
        _not_too_often(studio, "change", visitor.id)
    return visitor


def people_here(request: Request, studio: Annotated[Studio, Depends(the_studio)]) -> None:
    """Tell a page whom one can choose at this keyboard; nobody where one signs in."""
    if studio.settings.loopback:
        with studio.database.session() as session:
            request.state.people = [(person.id, person.name) for person in everybody(session)]


def now_and_then(request: Request, studio: Annotated[Studio, Depends(the_studio)]) -> None:
    """Refuse what takes long to somebody who asks for it too often.

    Raises:
        HTTPException: They do.
    """
    _not_too_often(studio, "heavy", request.state.person.id)


def admin(me: Annotated[Visitor, Depends(current_person)]) -> Visitor:
    """Return who asks, if they may invite and remove people.

    Raises:
        Refused: They may not.
    """
    if not me.is_admin:
        raise Refused(say("errors.admin"))
    return me


def only_here(studio: Annotated[Studio, Depends(the_studio)]) -> None:
    """Refuse what reads or writes this machine's folders, or chooses who one is, where others can ask.

    Raises:
        Refused: They can.
    """
    if not studio.settings.loopback:
        raise Refused(say("errors.only_here"))


def _not_too_often(studio: Studio, kind: str, person_id: str) -> None:
    wait = 0.0 if studio.settings.loopback else studio.rates.take(kind, person_id)
    if wait:
        seconds = int(wait) + 1
        raise HTTPException(429, say("errors.too_often", n=seconds), {"retry-after": str(seconds)})


def _signed_in(request: Request, studio: Studio) -> Visitor | None:
    cookie = request.cookies.get(SIGNED_IN)
    if not cookie:
        return None
    with studio.database.session() as session:
        found = signed_in(session, cookie)
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
Admin = Annotated[Visitor, Depends(admin)]
