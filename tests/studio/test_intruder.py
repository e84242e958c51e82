"""Two people and an intruder: every route with every id of another is answered as if there were no such thing.

The routes come from the application, so that a new one is covered by itself: it either refuses, or the test fails until a body
that it takes is listed here.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from sqlalchemy import select
from visitors import Browser, add_somebody, error

from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Table
from pamela_rl.studio.people import admin_token, ensure_first
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.app import create_app

NOBODYS = "AAAAAAAAAAAAAAAA"  # an id that nothing has
PUBLIC = {"/sign-in", "/health", "/metrics"}
BODIES: dict[str, Any] = {
    "/api/questions/{id}/answer": {"said": "rating", "value": 4},
    "/api/jobs/{id}/move": {"before": None},
    "/api/blind/{job_id}/pairs/{id}": {"chosen": "left"},
    "/api/people/{id}": {"confirm": "Ada"},
}
IN_BODIES: list[tuple[str, str, Any]] = [  # ids that are no part of the address
    ("POST", "/api/jobs", {"kind": "train", "settings": {"begin_from": "ID"}}),
    ("POST", "/api/jobs", {"kind": "compare", "settings": {"adapter": "ID", "against": ["base"], "pairs": 4}}),
    ("POST", "/api/jobs", {"kind": "show", "settings": {"adapter": "ID", "prompt": "a cup"}}),
]
NUMBERS = {"iteration": ["0"]}  # parameters that are no ids


class Place(NamedTuple):
    app: FastAPI
    database: Database
    ada: dict[str, str]
    bob: dict[str, str]
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("studio")
    settings = StudioSettings(folder=folder, host="0.0.0.0", names=["studio.test"], workers=0)
    database = open_database(folder)
    database.migrate()
    with database.changing() as session:
        ensure_first(session)
        (ada, ada_token), (bob, bob_token) = (add_somebody(session, folder, name) for name in ("Ada", "Bob"))
        chief = admin_token(session) or ""
    app = create_app(settings, database)
    yield Place(app, database, ada, bob, {"ada": ada_token, "bob": bob_token, "chief": chief})
    database.close()


def routes(app: FastAPI) -> list[tuple[str, str, list[str]]]:
    """Method, path and names of parameters of every route."""
    described = get_openapi(title="studio", version="1", routes=app.routes)["paths"]
    found = [
        (method.upper(), path, re.findall(r"{(\w+)}", path))
        for path, methods in described.items()
        for method in methods
    ]
    assert len(found) > 20
    return found


def ask(browser: Browser, method: str, path: str, body: Any, ids: dict[str, str]) -> tuple[int, bytes]:
    reply = browser.request(method, path.format(**ids), json=body)
    return reply.status_code, reply.content


def everything_of(database: Database, person: str) -> list[Any]:
    with database.session() as session:
        tables = [table for table in Table.metadata.sorted_tables if "person_id" in table.c]
        return [session.execute(select(table).where(table.c.person_id == person)).all() for table in tables]


def test_every_route_tells_nothing_of_anothers_ids(place: Place) -> None:
    before = everything_of(place.database, place.ada["person"])
    bob = Browser(place.app, place.tokens["bob"])
    asked = 0
    for method, path, names in routes(place.app):
        if not set(names) - NUMBERS.keys():
            continue
        body = BODIES.get(path)
        choices = [NUMBERS.get(name, [*place.ada.values(), "1"]) for name in names]
        known = ask(bob, method, path, body, {name: NUMBERS.get(name, [NOBODYS])[0] for name in names})
        assert known[0] in (403, 404), (
            f"{method} {path} answers {known} for an id that nothing has; does it need a body here?"
        )
        for ids in itertools.product(*choices):
            assert ask(bob, method, path, body, dict(zip(names, ids))) == known, f"{method} {path} {ids}"
            asked += 1
    assert asked > 100
    assert everything_of(place.database, place.ada["person"]) == before


def test_ids_inside_bodies_tell_nothing_either(place: Place) -> None:
    bob = Browser(place.app, place.tokens["bob"])
    paths = {(method, path) for method, path, _ in routes(place.app)}
    for method, path, body in IN_BODIES:
        assert (method, path) in paths
        told = {
            (reply.status_code, reply.content)
            for id in (NOBODYS, *place.ada.values())
            for reply in [bob.request(method, path, json=json.loads(json.dumps(body).replace("ID", id)))]
        }
        assert len(told) == 1, f"{method} {path} tells which ids there are: {told}"
        assert next(iter(told))[0] == 404
    exclude = bob.post(f"/api/questions/{place.bob['asked']}/answer", json={"said": "exclude", "picture": place.ada["picture"], "reason": "broken"})  # fmt: skip
    none = bob.post(f"/api/questions/{place.bob['asked']}/answer", json={"said": "exclude", "picture": NOBODYS, "reason": "broken"})  # fmt: skip
    assert (exclude.status_code, exclude.content) == (none.status_code, none.content)
    assert exclude.status_code in (400, 404)


def test_ones_own_are_there(place: Place) -> None:
    """What the tests above refuse is really there to be had, by the one whose it is."""
    ada = Browser(place.app, place.tokens["ada"])
    for address in ("/pictures/{picture}", "/pictures/{picture}/small", "/adapters/{adapter}/download"):
        reply = ada.get(address.format(**place.ada))
        assert reply.status_code == 200, address
        assert reply.content


def test_nobody_gets_anything_without_signing_in(place: Place) -> None:
    stranger = Browser(place.app)
    for method, path, names in routes(place.app):
        if path not in PUBLIC:
            reply = stranger.request(method, path.format(**dict.fromkeys(names, "1")), json=BODIES.get(path))
            assert reply.status_code == 401, f"{method} {path}"
            assert error(reply) == "Sign in first."
    assert stranger.get("/rate", headers={"accept": "text/html"}).headers["location"] == "/sign-in"
    assert stranger.get("/metrics").status_code == 404


def test_every_change_needs_the_page_s_token_and_no_other_site_can_make_one(place: Place) -> None:
    bob = Browser(place.app, place.tokens["bob"])
    for method, path, names in routes(place.app):
        if method in ("GET", "HEAD") or path in PUBLIC:
            continue
        address = path.format(**dict.fromkeys(names, "1"))
        for headers in ({"x-csrf-token": ""}, {"x-csrf-token": "wrong"}, {"origin": "http://evil.test"},
                        {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):  # fmt: skip
            assert bob.request(method, address, json=BODIES.get(path), headers=headers).status_code == 403, (
                path,
                headers,
            )


def test_only_an_admin_sees_and_changes_who_takes_part(place: Place) -> None:
    bob, chief = Browser(place.app, place.tokens["bob"]), Browser(place.app, place.tokens["chief"])
    for method, path, body in (("GET", "/api/people", None), ("POST", "/api/people", {"name": "Eve"})):
        assert bob.request(method, path, json=body).status_code == 403
    assert {person["name"] for person in chief.get("/api/people").json()["people"]} == {"me", "Ada", "Bob"}
    told = chief.post("/api/people", json={"name": "<b>Eve</b>"}).json()
    eve = Browser(place.app, told["token"])
    assert eve.get("/api/pictures").json()["pictures"] == []
    removed = chief.request("DELETE", f"/api/people/{told['id']}", json={"confirm": "<b>Eve</b>"})
    assert removed.status_code == 200
    assert eve.get("/api/pictures").status_code == 401


def test_what_reads_or_writes_folders_is_for_the_machine_itself(place: Place, tmp_path: Path) -> None:
    bob = Browser(place.app, place.tokens["bob"])
    for path, body in (
        ("/api/imports/folder", {"path": str(tmp_path)}),
        ("/api/liked/copy", {"folder": str(tmp_path)}),
        ("/api/here", {"person": place.ada["person"]}),
    ):
        assert bob.post(path, json=body).status_code == 403
    bob.cookies.set("studio_here", place.ada["person"])
    assert bob.get(f"/pictures/{place.ada['picture']}").status_code == 404
