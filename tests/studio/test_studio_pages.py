"""The studio's pages as they are sent: their weight, what they ask for, and that their words exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import PLACES
from fastapi.testclient import TestClient

from pamela_rl.studio.database.opening import open_database
from pamela_rl.studio.people import ensure_first
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web import pages
from pamela_rl.studio.web.app import create_app
from pamela_rl.studio.web.strings import say, tables

HEAVIEST = 150_000  # bytes of a page with its style, script and icons, without pictures
WING = Path(pages.__file__).parents[1]


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = StudioSettings(folder=tmp_path_factory.mktemp("studio"))
    database = open_database(settings.folder)
    database.migrate()
    with database.changing() as session:
        ensure_first(session)
    # without its context nothing begins to load in the background: pages do not wait for that either
    yield TestClient(create_app(settings, database), base_url="http://127.0.0.1", headers={"Accept": "text/html"})
    database.close()


@pytest.mark.parametrize("place", [*PLACES, "/sign-in"])
def test_a_page_is_light_and_asks_for_nothing_from_elsewhere(asking: TestClient, place: str) -> None:
    reply = asking.get(place)
    assert reply.status_code == (404 if place == "/nowhere" else 200)
    asked = set(re.findall(r'(?:href|src)="(/static/[^"#]+)', reply.text))
    assert len(asked) >= 3
    sent = [asking.get(file) for file in asked]
    assert all(file.status_code == 200 for file in sent)
    assert len(reply.content) + sum(len(file.content) for file in sent) <= HEAVIEST
    everything = reply.text + "".join(file.text for file in sent).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|\burl\(", everything)
    # what the security policy would refuse is not there to begin with
    assert "'unsafe-inline'" not in reply.headers["content-security-policy"]
    assert not re.search(r"<style|\sstyle=|\son\w+=", reply.text)
    assert all('type="application/json"' in tag or "src=" in tag for tag in re.findall(r"<script[^>]*>", reply.text))


def test_names_are_text(asking: TestClient) -> None:
    database = asking.app.state.studio.database  # type: ignore[attr-defined]
    from pamela_rl.studio.database.schema import Person

    with database.changing() as session:
        person = session.query(Person).one()
        before, person.name = person.name, '"><img src=x onerror=alert(1)></script>'
    try:
        for place in PLACES:
            assert "<img src=x" not in asking.get(place).text
    finally:
        with database.changing() as session:
            session.query(Person).one().name = before


def test_every_string_that_is_said_exists_and_every_string_is_said() -> None:
    sources = [*WING.rglob("*.py"), *WING.rglob("*.html"), *WING.rglob("*.js")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    whole = set(re.findall(r"""say\(\s*f?["'`]([\w.]+)["'`]\s*[,)]""", text))
    begun = set(re.findall(r"""["'`]([a-z_]+\.(?:[a-z_]+_)?)(?:\$\{|\{|["'] ~)""", text))
    both = set(re.findall(r"""["'`]([a-z_]+\.[a-z_]+)["'`]""", text))
    known = {f"{table}.{name}" for table, names in tables().items() for name in names}
    assert whole <= known
    by_any_page = {name for names in tables().values() for name in names if name in {"title", "went"}}
    silent = {
        key
        for key in known - whole - both
        if not any(key.startswith(start) for start in begun) and key.split(".")[1] not in by_any_page | {"worth"}
    }
    assert not silent


def test_a_string_chooses_by_number() -> None:
    assert say("library.added", n=1) == "One picture added."
    assert say("library.added", n=3) == "3 pictures added."
