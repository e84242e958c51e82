from __future__ import annotations

from pathlib import Path

import pytest
from local_server import KEY, KEY_VARIABLE, LocalServer, gemini, openai, png, says

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


def test_a_chat_model_behind_an_address_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with LocalServer(answer=lambda request: says("a boat at night")) as server:
        chat = open_chat(ChatSettings("m", server.url, KEY_VARIABLE))
        assert chat is not None
        assert chat([{"role": "user", "content": "a boat"}], seed=0) == "a boat at night"
