from __future__ import annotations

from pathlib import Path

import pytest
from local_server import KEY, KEY_VARIABLE, LocalServer, gemini, openai, png, says

from pamela_rl.errors import ConfigError
from pamela_rl.steering.opening import open_chat, open_service
from pamela_rl.steering.settings import ChatSettings, ServiceSettings


def test_without_a_model_there_is_no_service_and_no_chat(tmp_path: Path) -> None:
    assert open_service(ServiceSettings(), tmp_path) is None
    assert open_chat(ChatSettings()) is None


@pytest.mark.parametrize("kind", ["gemini", "openai"])
def test_a_service_draws_and_keeps_what_it_drew(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    picture = png((10, 200, 10), (32, 32))
    with LocalServer(answer=lambda request: (gemini if kind == "gemini" else openai)(picture)) as server:
        settings = ServiceSettings("m", kind, server.url, KEY_VARIABLE, size=32, requests_per_minute=1e6)  # type: ignore[arg-type]
        draw = open_service(settings, tmp_path)
        assert draw is not None
        assert draw(["a boat"], [1]).shape == (1, 3, 32, 32)
        assert draw.service.name == kind
    assert any(tmp_path.iterdir())


def test_a_price_that_is_not_known_must_be_given_before_anything_is_bought(tmp_path: Path) -> None:
    for changes in ({}, {"kind": "openai"}, {"url": "https://gateway.example.org"}):
        with pytest.raises(
            ConfigError, match=r"price_per_image is not set, and what an image of 'm' costs is not known"
        ):
            ServiceSettings("m", **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"an image of 'gemini-2\.5-flash-image' costs"):
        ServiceSettings("gemini-2.5-flash-image", url="https://gateway.example.org")
    for settings, price in (
        (ServiceSettings("gemini-2.5-flash-image"), 0.039),
        (ServiceSettings("m", price_per_image=0.2), 0.2),
        (ServiceSettings("m", url="http://192.168.1.20:8000/v1"), 0.0),
        (ServiceSettings("m", url="http://localhost", price_per_image=0.01), 0.01),
    ):
        draw = open_service(settings, tmp_path)
        assert draw is not None
        assert draw._ledger.budget.price_per_image == price


def test_a_service_in_the_local_network_needs_no_key(tmp_path: Path) -> None:
    with LocalServer(answer=lambda request: openai(png((10, 200, 10), (32, 32)))) as server:
        draw = open_service(ServiceSettings("m", "openai", server.url, size=32), tmp_path)
        assert draw is not None
        draw(["a boat"], [1])
    assert "authorization" not in server.requests[0].headers


def test_temperature_and_length_of_a_chats_answer_are_settings() -> None:
    with LocalServer(answer=lambda request: says("yes")) as server:
        chat = open_chat(ChatSettings("m", server.url, temperature=None, max_tokens=4000))
        assert chat is not None
        chat([{"role": "user", "content": "a boat"}], seed=0)
    assert server.requests[0].body["max_tokens"] == 4000
    assert "temperature" not in server.requests[0].body


def test_a_chat_model_behind_an_address_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with LocalServer(answer=lambda request: says("a boat at night")) as server:
        chat = open_chat(ChatSettings("m", server.url, KEY_VARIABLE))
        assert chat is not None
        assert chat([{"role": "user", "content": "a boat"}], seed=0) == "a boat at night"
