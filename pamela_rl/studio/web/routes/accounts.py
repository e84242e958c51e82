"""Requests of who one is: signing in and out, inviting and removing people; and whether the studio is well."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from sqlalchemy import delete

from pamela_rl.studio.database.access import NotFound
from pamela_rl.studio.database.schema import Person, SignIn
from pamela_rl.studio.people import Gone, add_person, ensure_first, everybody, remove_person
from pamela_rl.studio.sign_in import LASTS, begin, end, give_token, who_has
from pamela_rl.studio.watch import health, metrics
from pamela_rl.studio.web.guard import address, too_often
from pamela_rl.studio.web.strings import say
from pamela_rl.studio.web.visitor import (
    HERE,
    SIGNED_IN,
    Admin,
    Here,
    Me,
    NotSignedIn,
    Studio,
    current_person,
    only_here,
)

router = APIRouter()
public = APIRouter()


@public.post("/sign-in")
def sign_in(token: Annotated[str, Body(embed=True)], request: Request, studio: Here) -> Response:
    """Sign in with the token one was given."""
    claimed = token.rpartition(".")[0][:64]
    for who in (address(request.scope), f"person {claimed}"):
        wait = studio.rates.take("sign-in", who)
        if wait:
            return too_often(wait)
    with studio.database.session() as session:
        person = who_has(session, token)
    if person is None:
        studio.audit("", "refused", request)
        raise HTTPException(403, say("errors.token"))
    with studio.database.changing() as session:
        cookie = begin(session, person)
    studio.audit(person.id, "signed in", request)
    answer = JSONResponse({})
    answer.set_cookie(
        SIGNED_IN, cookie, max_age=int(LASTS.total_seconds()), httponly=True, samesite="strict",
        secure=studio.settings.https,
    )  # fmt: skip
    return answer


@router.post("/sign-out")
def sign_out(request: Request, studio: Here, me: Me) -> Response:
    """Sign this browser out."""
    with studio.database.changing() as session:
        end(session, request.cookies.get(SIGNED_IN, ""))
    studio.audit(me.id, "signed out", request)
    answer = JSONResponse({})
    answer.delete_cookie(SIGNED_IN, httponly=True, samesite="strict", secure=studio.settings.https)
    return answer


@router.post("/api/here", dependencies=[Depends(only_here)])
def here(person: Annotated[str, Body(embed=True)], studio: Here) -> Response:
    """Choose who is at the keyboard."""
    with studio.database.session() as session:
        if session.get(Person, person) is None:
            raise NotFound
    answer = JSONResponse({})
    answer.set_cookie(HERE, person, max_age=int(LASTS.total_seconds()), httponly=True, samesite="strict")
    return answer


@router.get("/api/people")
def people(studio: Here, me: Admin) -> dict[str, Any]:
    """Return who takes part."""
    with studio.database.session() as session:
        return {"people": [_as_json(person) for person in everybody(session)]}


@router.post("/api/people")
def invite(name: Annotated[str, Body(embed=True)], request: Request, studio: Here, me: Admin) -> dict[str, Any]:
    """Add a person; their token is shown this once."""
    with studio.database.changing() as session:
        person, token = add_person(session, name, with_token=not studio.settings.loopback)
    studio.audit(me.id, "invited", request, person=person.id)
    return {"id": person.id, "token": token}


@router.post("/api/people/{id}/token")
def renew(id: str, request: Request, studio: Here, me: Admin) -> dict[str, Any]:
    """Give a person another token, for one that was lost; it is shown this once, and signs them out everywhere."""
    with studio.database.changing() as session:
        person = session.get(Person, id)
        if person is None:
            raise NotFound
        token = give_token(person)
        session.execute(delete(SignIn).where(SignIn.person_id == id))
    studio.audit(me.id, "new token", request, person=id)
    return {"token": token}


@router.delete("/api/people/{id}")
def remove(
    id: str, confirm: Annotated[str, Body(embed=True)], request: Request, studio: Here, me: Admin
) -> dict[str, Any]:
    """Remove a person, whose name has to be written."""
    return _remove(studio, request, me.id, id, confirm)


@router.delete("/api/me")
def remove_me(confirm: Annotated[str, Body(embed=True)], request: Request, studio: Here, me: Me) -> dict[str, Any]:
    """Remove oneself; one's name has to be written."""
    return _remove(studio, request, me.id, me.id, confirm)


@public.get("/health")
def healthy(studio: Here) -> Response:
    """Say whether the studio is well."""
    found = health(studio.database)
    return JSONResponse(found, 200 if found["status"] == "ok" else 503)


@public.get("/metrics")
def counted(request: Request, studio: Here) -> Response:
    """Return what is counted: to this machine, unless a proxy on it speaks for others, and to admins."""
    from_here = address(request.scope) in ("127.0.0.1", "::1") and not studio.settings.https
    if not (studio.settings.loopback or from_here):
        try:
            allowed = current_person(request, studio).is_admin
        except NotSignedIn:
            allowed = False
        if not allowed:
            raise NotFound
    return PlainTextResponse(metrics(studio.database, studio.meter), media_type="text/plain; version=0.0.4")


def _remove(studio: Studio, request: Request, by: str, person_id: str, confirm: str) -> dict[str, Any]:
    with studio.database.session() as session:
        person = session.get(Person, person_id)
        if person is None:
            raise NotFound
        admins = [other for other in everybody(session) if other.is_admin and other.id != person_id]
    if confirm != person.name:
        raise HTTPException(400, say("errors.confirm", name=person.name))
    if person.is_admin and not admins and not studio.settings.loopback:
        raise HTTPException(409, say("errors.last_admin"))
    gone = remove_person(studio.database, studio.settings.folder, person_id)
    if "taste" in studio.parts:
        studio.parts["taste"].forget(person_id)
    for other in gone.others:
        studio.changed(other)
    if studio.settings.loopback:
        with studio.database.changing() as session:
            ensure_first(session)
    studio.audit(by, "deleted", request, person=person_id, **gone.counts)
    return {"went": _told(studio, gone)}


def _told(studio: Studio, gone: Gone) -> list[str]:
    """Say what went, and what is kept and why."""
    went = [say(f"gone.{name}", n=number) for name, number in gone.counts.items() if number]
    if studio.settings.reward is not None:
        went.append(say("gone.kept_reward", folder=studio.settings.reward))
    elif studio.settings.in_world:
        went.append(say("gone.kept_world"))
    return [*went, say("gone.kept_backups")]


def _as_json(person: Person) -> dict[str, Any]:
    created = person.created.replace(tzinfo=UTC).isoformat()
    return {"id": person.id, "name": person.name, "is_admin": person.is_admin, "created": created}
