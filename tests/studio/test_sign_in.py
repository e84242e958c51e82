"""Who may come in, from where, and how often; and what is written down about it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from visitors import Browser, error

from pamela_rl.errors import ConfigError
from pamela_rl.studio.database.opening import Database, open_database
from pamela_rl.studio.database.schema import Event, Person, SignIn, now
from pamela_rl.studio.people import add_person, admin_token, ensure_first
from pamela_rl.studio.serving import the_only_one
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.watch import LOG, JsonLines, log_to, logger
from pamela_rl.studio.web.app import create_app
from pamela_rl.studio.web.rates import MOST_KEPT, RATES, Rates


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path)
    opened.migrate()
    with opened.changing() as session:
        ensure_first(session)
    yield opened
    opened.close()


def served(folder: Path, database: Database, **settings: object) -> TestClient:
    """A studio for others, visited by a browser that nobody knows."""
    made = StudioSettings(folder=folder, host="0.0.0.0", names=["studio.test"], workers=0, **settings)  # type: ignore[arg-type]
    return Browser(create_app(made, database))


def test_a_token_works_until_another_is_given_and_is_nowhere_kept(tmp_path: Path, database: Database) -> None:
    with database.changing() as session:
        first = admin_token(session) or ""
        assert admin_token(session) is None
    with database.session() as session:
        assert first not in str(session.scalars(select(Person.token)).all())
    stranger = served(tmp_path, database, https=True)
    signed_in = stranger.post("/sign-in", json={"token": first})
    assert signed_in.json() == {}
    cookie = signed_in.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Secure", "Max-Age=2592000"))
    with database.changing() as session:
        assert cookie.split("=")[1].split(";")[0] not in str(session.execute(select(SignIn.id, SignIn.csrf)).all())
        second = admin_token(session, anew=True) or ""
    assert stranger.post("/sign-in", json={"token": second}).status_code == 200
    for wrong in (first, "", "x", second + "x", second[:-1], "A" * 16 + ".x", "\0", "x" * 100_000):
        reply = stranger.post("/sign-in", json={"token": wrong})
        assert (reply.status_code, error(reply)) in (
            (403, "This token is not known; ask for a new one."),
            (429, error(reply)),
        )
    with database.session() as session:
        events = session.scalars(select(Event.event).order_by(Event.id)).all()
    assert events[:3] == ["signed in", "signed in", "refused"]


def test_a_sign_in_ends(tmp_path: Path, database: Database) -> None:
    with database.changing() as session:
        token = admin_token(session)
    stranger = served(tmp_path, database)
    visitor = Browser(stranger.app, token)  # type: ignore[arg-type]
    assert visitor.get("/api/people").status_code == 200
    with database.changing() as session:
        session.execute(update(SignIn).values(expires=now() - timedelta(seconds=1)))
    assert visitor.get("/api/people").status_code == 401
    again = Browser(stranger.app, token)  # type: ignore[arg-type]
    with database.session() as session:
        assert len(session.scalars(select(SignIn)).all()) == 1, "what has ended is forgotten"
    cookie = again.cookies["studio_session"]
    assert again.post("/sign-out").status_code == 200
    again.cookies.set("studio_session", cookie)
    assert again.get("/api/people").status_code == 401


def test_guessing_is_slow(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pamela_rl.studio.web.rates.time.monotonic", lambda: 1000.0)  # however slow this machine is
    stranger = served(tmp_path, database)
    replies = [stranger.post("/sign-in", json={"token": f"x.{number}"}) for number in range(RATES["sign-in"][0] + 1)]
    assert {reply.status_code for reply in replies[:-1]} == {403}
    assert replies[-1].status_code == 429
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 7
    assert "try again in" in error(replies[-1])


def test_rates_come_back_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr("pamela_rl.studio.web.rates.time.monotonic", lambda: clock)
    rates, (most, refill) = Rates(), RATES["heavy"]
    assert [rates.take("heavy", "a") for _ in range(most)] == [0.0] * most
    assert rates.take("heavy", "a") == pytest.approx(1 / refill)
    assert rates.take("heavy", "b") == 0.0
    clock += 1 / refill
    assert rates.take("heavy", "a") == 0.0
    assert rates.take("heavy", "a") > 0
    for number in range(2 * MOST_KEPT):
        rates.take("request", str(number))
    assert len(rates._left) <= MOST_KEPT


@pytest.mark.parametrize(
    ("host", "others", "alone"),
    [
        ("studio.test", 200, 400), ("STUDIO.test:8765", 200, 400), ("127.0.0.1:1", 200, 200), ("[::1]:8765", 200, 200),
        ("localhost", 200, 200), ("192.168.0.7", 200, 400), ("evil.test", 400, 400), ("studio.test.evil", 400, 400),
        ("", 400, 400), ("[", 400, 400), ("127.0.0.1.nip.io", 400, 400), ("127.0.0.1@evil.test", 400, 400),
    ],
)  # fmt: skip
def test_a_name_that_is_not_the_studio_s_is_refused(
    host: str, others: int, alone: int, tmp_path: Path, database: Database
) -> None:
    for settings, wanted in (
        (StudioSettings(folder=tmp_path, host="0.0.0.0", names=["studio.test"], workers=0), others),
        (StudioSettings(folder=tmp_path, workers=0), alone),
    ):
        reply = TestClient(create_app(settings, database)).get("/health", headers={"host": host})
        assert reply.status_code == wanted, settings.host


def test_every_answer_has_the_headers_that_keep_it_apart(tmp_path: Path, database: Database) -> None:
    stranger = served(tmp_path, database)
    for path in ("/sign-in", "/health", "/static/studio.js", "/static/none", "/nothing", "/api/people"):
        headers = stranger.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none';"), path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_what_breaks_is_a_sentence_and_a_line_in_the_log_that_nobody_s_words_can_shape(
    tmp_path: Path, database: Database
) -> None:
    log_to(tmp_path)
    visitor = served(tmp_path, database)
    try:
        visitor.get('/x"%0A{"event": "forged"}', headers={"user-agent": '"}\n{"event": "forged"}'})
        logger.error("worker ended", extra={"about": {"why": 'a\n{"event": "forged"}\x1b[31m\u2028'}})
        database.close()
        (tmp_path / "studio.sqlite").rename(tmp_path / "gone")
        for rest in tmp_path.glob("studio.sqlite-*"):
            rest.unlink()
        (tmp_path / "studio.sqlite").mkdir()
        ill = visitor.get("/health")
        assert (ill.status_code, ill.json()["database"]) == (503, "unreachable")
        visitor.cookies.set("studio_session", "x")
        broken = visitor.get("/api/people")
        assert (broken.status_code, error(broken)) == (
            500,
            "Something broke in the studio; what happened is in its log.",
        )
        lines = [json.loads(line) for line in (tmp_path / LOG).read_text(encoding="utf-8").splitlines()]
    finally:
        logger.handlers.pop().close()
        logger.propagate = True
    assert not [line for line in lines if line["event"] == "forged"]
    assert {"request", "worker ended", "database unreachable", "broken"} <= {line["event"] for line in lines}
    assert [line["route"] for line in lines if line.get("status") == 404] == ["none"]
    assert "OperationalError" in next(line["traceback"] for line in lines if line["event"] == "broken")
    counted = visitor.app.state.studio.meter.lines()  # type: ignore[attr-defined]
    assert "studio_errors_total 2" in counted
    assert 'studio_requests_total{method="GET",route="/api/people",status="500"} 1' in counted
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\nb", None, None)
    assert "\n" not in JsonLines().format(record)


def test_names_are_text_and_a_folder_has_one_server(tmp_path: Path, database: Database) -> None:
    with database.changing() as session:
        assert add_person(session, " <script>../x ", with_token=False)[0].name == "<script>../x"
        for wrong in ("", "  ", "x" * 81, "a\nb", "a\x1b[31m"):
            with pytest.raises(ConfigError, match="A name has 1 to 80 printable characters"):
                add_person(session, wrong, with_token=False)
    with (
        the_only_one(tmp_path),
        pytest.raises(ConfigError, match="is running already; stop it first"),
        the_only_one(tmp_path),
    ):
        pass
