from __future__ import annotations

import email.utils
import html
import itertools
import json
import logging
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from local_server import KEY, KEY_VARIABLE, LocalServer, Reply

from pamela_rl.errors import ConfigError, PamelaError, ServiceError
from pamela_rl.steering.http import EndpointSettings, JsonClient
from pamela_rl.steering.responses import InvalidResponse

OK = Reply({"said": "yes"})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def read_text(answer: Any) -> str:
    if "said" not in answer:
        raise InvalidResponse("it says nothing")
    return str(answer["said"])


def ask(server: LocalServer, **changes: Any) -> str:
    return JsonClient(server.config(**changes)).post("/v1/x", {"a": "ä"}, description="an answer", read=read_text)


def error_of(server: LocalServer, **changes: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        ask(server, **changes)
    return caught.value


def test_the_answer_comes_back_and_the_key_goes_in_its_header_alone() -> None:
    with LocalServer(OK) as server:
        assert ask(server) == "yes"
    request = server.requests[0]
    assert (request.method, request.path, request.body) == ("POST", "/v1/x", {"a": "ä"})
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"


def test_a_service_without_a_key_gets_none() -> None:
    with LocalServer(OK) as server:
        assert ask(server, key_variable=None) == "yes"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_or_broken_service_is_asked_again(status: int) -> None:
    with LocalServer(Reply({}, status), Reply({}, status), OK) as server:
        assert ask(server) == "yes"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418])
def test_a_refusal_is_not_asked_again_and_is_quoted(status: int) -> None:
    with LocalServer(Reply({"error": {"message": "we do not\ndo this"}}, status)) as server:
        error = error_of(server)
    assert len(server.requests) == 1
    assert f"refused an answer: it answered {status}: we do not do this" in str(error)


def test_retries_end() -> None:
    with LocalServer(Reply({"error": "overloaded"}, 503)) as server:
        error = error_of(server, num_retries=3)
    assert len(server.requests) == 4
    assert "did not give an answer in 4 attempts; of the last: it answered 503: overloaded" in str(error)


def test_waits_double_between_attempts() -> None:
    with LocalServer(Reply({}, 500)) as server:
        error_of(server, num_retries=3, backoff=0.1, max_backoff=9)
    times = [request.time for request in server.requests]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    for wait, longest in zip(waits, (0.1, 0.2, 0.4)):
        assert wait >= longest / 2


def test_the_wait_that_the_service_asks_for_is_kept() -> None:
    with LocalServer(Reply({}, 429, {"Retry-After": "1"}), OK) as server:
        ask(server, max_backoff=5)
    assert 1.0 <= server.requests[1].time - server.requests[0].time < 4.0


def test_the_wait_may_be_a_date_and_is_capped() -> None:
    date = email.utils.formatdate(time.time() + 9, usegmt=True)
    with LocalServer(Reply({}, 503, {"Retry-After": date}), OK) as server:
        ask(server, max_backoff=0.5)
    assert 0.5 <= server.requests[1].time - server.requests[0].time < 5.0


def test_a_slow_answer_is_given_up_and_asked_for_again() -> None:
    with LocalServer(Reply(OK.body, delay=1.0), OK) as server:
        assert ask(server, timeout=0.5) == "yes"
    with LocalServer(Reply(OK.body, delay=1.0)) as server:
        assert "no answer within 0.2 seconds" in str(error_of(server, timeout=0.2, num_retries=1))


def test_an_answer_that_only_drips_is_given_up() -> None:
    start = time.monotonic()
    with LocalServer(Reply(OK.body, drip=0.3)) as server:
        error = error_of(server, timeout=0.4, num_retries=0)
        assert time.monotonic() - start < 2.5
    assert "not complete after 0.4 seconds" in str(error)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (Reply(b'{"said": "ye'), "no JSON"),
        (Reply(b"[" * 100_000), "no JSON"),
        (Reply({"spoken": 1}), "says nothing"),
        (Reply({"said": "y" * 100}, cut=True), "connection broke off"),
    ],
)
def test_broken_answers_are_asked_for_again(broken: Reply, reason: str) -> None:
    with LocalServer(broken, OK) as server:
        assert ask(server) == "yes"
    with LocalServer(broken) as server:
        assert reason in str(error_of(server))
    assert len(server.requests) == 3


def test_a_huge_answer_is_not_read_to_its_end() -> None:
    with LocalServer(Reply({"said": "y" * 1_000_000})) as server:
        error = error_of(server, max_bytes=100_000)
    assert "larger than max_bytes, 100000" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    with LocalServer(OK) as other, LocalServer(Reply({}, status, {"Location": f"{other.url}/{KEY}"})) as server:
        error = error_of(server)
    assert other.requests == []
    assert f"answered {status}, a redirect" in str(error)


def test_a_service_that_is_not_there_is_said_to_be_so() -> None:
    with LocalServer(OK) as server:
        pass
    assert "no connection could be made; check base_url" in str(error_of(server, num_retries=1))


ECHOES = {
    "plain": Reply({"error": {"message": f"Incorrect API key provided: {KEY}."}}, 401),
    "in a URL": Reply({"error": f"no such page ?key={quote(KEY, safe='')}"}, 404),
    "in HTML": Reply(f"<p>{html.escape(KEY)} {KEY}</p>".encode(), 500),
    "escaped": Reply("".join(f"\\u{ord(letter):04x}" for letter in KEY).join(['{"error": "', '"}']).encode(), 403),
    "as a name": Reply({"detail": {KEY: "unknown"}}, 400),
    "where it is cut": Reply({"error": "x" * (300 - len(KEY) // 2) + KEY}, 400),
    "in a header": Reply({}, 302, {"Location": f"https://example.org/?key={KEY}"}),
    "in broken JSON": Reply(f'{{"key": "{KEY}"'.encode()),
    "in an answer": Reply({"spoken": KEY}),
    "slowly": Reply({"error": KEY}, 401, delay=0.5),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_the_key_reaches_no_error_no_log_and_no_text(echo: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with LocalServer(echo) as server:
        client = JsonClient(server.config(timeout=0.3))

        def unread(answer: Any) -> str:
            raise InvalidResponse(str(answer))

        with pytest.raises(ServiceError) as caught:
            client.post("/v1/x", {}, description="an answer", read=unread)
    assert server.requests[0].headers["authorization"].endswith(KEY)
    seen = [repr(client), repr(client.config), caplog.text, "".join(traceback.format_exception(caught.value))]
    chain: list[BaseException | None] = [caught.value]
    while (link := chain.pop()) is not None:
        chain.append(link.__cause__ or link.__context__)
        seen += [
            repr(frame.f_locals)
            for frame, _ in traceback.walk_tb(link.__traceback__)
            if "/tests/" not in frame.f_code.co_filename
        ]
    for text in seen:
        assert not [form for form in (KEY, KEY[:12], quote(KEY, safe=""), json.dumps(KEY)[1:-1]) if form in text]


def test_an_answer_that_holds_the_key_is_cleaned() -> None:
    with LocalServer(Reply({"said": f"your key is {KEY}"})) as server:
        assert ask(server) == "your key is [key]"


def test_short_placeholders_are_left_in_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "none")
    with LocalServer(Reply({"said": "none of it"})) as server:
        assert ask(server) == "none of it"


@pytest.mark.parametrize("key", ["", "  ", "two words", "brøken", "a\nb: c"])
def test_a_key_that_is_missing_or_none_is_refused_before_any_request(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with (
        LocalServer(OK) as server,
        pytest.raises(ConfigError, match=f"variable {KEY_VARIABLE} (is not set|holds no key)"),
    ):
        ask(server)
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"code": "insufficient_quota", "type": "insufficient_quota", "message": "You exceeded your quota."}),
        (
            429,
            {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"violations": [{"quotaId": "GeneratePerDay"}]}]},
        ),
        (
            429,
            {
                "code": 429,
                "details": [{"@type": "Help"}, {"violations": [{"quotaId": "PerMinute", "quotaValue": "0"}]}],
            },
        ),
        (503, {"type": "billing_error"}),
        (402, "Insufficient balance"),
    ],
)
def test_a_quota_that_is_used_up_is_not_asked_again(status: int, error: Any) -> None:
    with LocalServer(Reply({"error": error}, status)) as server:
        sentence = str(error_of(server))
    assert len(server.requests) == 1
    assert f"refused an answer: it answered {status}: " in sentence
    assert f"the quota or credit behind {KEY_VARIABLE} is used up: add some, or wait until it is renewed" in sentence


def test_a_rate_limit_is_asked_again_though_its_message_speaks_of_quota_and_billing() -> None:
    words = "You exceeded your current quota, please check your plan and billing details."
    minute = {"quotaId": "GenerateContentRequestsPerMinutePerProject", "quotaValue": "10"}
    limits: list[Any] = [
        {"code": 429, "message": words, "status": "RESOURCE_EXHAUSTED", "details": [{"violations": [minute]}]},
        {"message": words, "code": "rate_limit_exceeded", "type": "requests", "details": "none"},
    ]
    with LocalServer(*(Reply({"error": error}, 429) for error in limits), OK) as server:
        assert ask(server) == "yes"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "host",
    ["localhost:8000", "127.0.0.2", "[::1]:80", "192.168.1.20:11434", "10.0.0.5", "172.16.3.4", "[fd00::7]", "nas.local",
     "NAS.LOCAL.", "gpu-box:8000", "gpu.lan", "box.home.arpa"],
)  # fmt: skip
def test_plain_http_is_allowed_in_the_local_network(host: str) -> None:
    assert EndpointSettings(f"http://{host}", None).url("/v1/x").endswith("/v1/x")


@pytest.mark.parametrize(
    "url",
    ["http://example.org", "ftp://localhost", "ftp://example.org", "http://127.0.0.1.example.org", "http://8.8.8.8",
     "http://172.32.0.1", "http://134744072", "http://0x08080808", "http://nas.local.example.org",
     "http://[2001:4860:4860::8888]"],
)  # fmt: skip
def test_keys_do_not_travel_in_the_clear(url: str) -> None:
    with pytest.raises(ConfigError, match="keys are sent in clear text"):
        EndpointSettings(url, KEY_VARIABLE)


@pytest.mark.parametrize(
    "url", ["https://me:sk-12345678@x.org", "https://x.org?key=sk-12345678", "sk-12345678", "https://x:sk-12345678"]
)
def test_an_address_with_a_key_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="no plain address") as caught:
        EndpointSettings(url, KEY_VARIABLE)
    assert "sk-12345678" not in "".join(traceback.format_exception_only(caught.value))


def test_a_key_in_the_place_of_its_variable_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="key_variable is no name") as caught:
        EndpointSettings("https://example.org", KEY)
    assert KEY not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.parametrize(
    ("name", "value"), [("timeout", 0), ("num_retries", -1), ("requests_per_minute", float("nan"))]
)
def test_settings_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(PamelaError, match=f"{name} is {value}"):
        EndpointSettings("https://example.org", None, **{name: value})


def test_a_base_that_ends_in_the_version_is_understood() -> None:
    for base in ("https://x.org", "https://x.org/", "https://x.org/v1", "https://x.org/v1/"):
        assert EndpointSettings(base, None).url("/v1/images") == "https://x.org/v1/images"


def test_requests_of_many_threads_start_no_faster_than_allowed() -> None:
    with LocalServer(OK) as server:
        client = JsonClient(server.config(requests_per_minute=1200))
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda _: client.post("/", {}, description="an answer", read=read_text), range(12)))
    times = sorted(request.time for request in server.requests)
    assert times[-1] - times[0] >= 11 * 0.05 - 0.02


def test_the_environments_proxy_carries_https_without_seeing_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalServer(Reply({}, 403)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:secret@"))
        client = JsonClient(EndpointSettings("https://example.invalid", KEY_VARIABLE, num_retries=0))
        with pytest.raises(ServiceError, match="proxy in HTTPS_PROXY did not pass") as caught:
            client.post("/v1/x", {}, description="an answer", read=read_text)
    assert (proxy.requests[0].method, proxy.requests[0].path) == ("CONNECT", "example.invalid:443")
    assert "proxy-authorization" in proxy.requests[0].headers
    assert KEY not in str(proxy.requests)
    assert "secret" not in str(caught.value)
