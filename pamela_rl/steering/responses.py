"""What came of one request: an answer, or why there is none, in words that hold no key; and when the next may start."""

from __future__ import annotations

import base64
import email.utils
import html
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import urllib3

RETRIED = {429, 500, 502, 503, 504}
_QUOTED = 300  # letters of a service's own message
_SHORTEST_KEY = 8  # shorter ones are placeholders of local servers ("none", "EMPTY") and common words
_REMEDIES = {
    400: "change the request",
    401: "check the key in {variable}",
    403: "check the key in {variable} and what it may do",
    404: "check the model's name and base_url",
}
_NOT_REACHED = (
    urllib3.exceptions.ConnectTimeoutError,  # and its child NewConnectionError
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
)


class BrokenAnswer(Exception):
    """An answer that is not what was asked for and may be whole the next time; never leaves this package."""


@dataclass(frozen=True)
class Failure:
    """Why a request brought nothing.

    Attributes:
        reason: In words, without the key.
        again: Whether another attempt may help.
        taken: Whether the service may have done, and charged for, what was asked.
        wait: Seconds the service asks to wait, or None.
    """

    reason: str
    again: bool
    taken: bool
    wait: float | None = None


class Pace:
    """Spaces the starts of requests evenly, over all threads of this process.

    Args:
        interval: Seconds between two starts.
    """

    def __init__(self, interval: float):
        self._interval, self._next, self._lock = interval, 0.0, threading.Lock()

    def wait(self) -> None:
        """Return when the next request may start."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._interval
        while (left := start - time.monotonic()) > 0:
            time.sleep(left)

    def hold(self, seconds: float) -> None:
        """Let no request start for a while; those that already wait for their turn keep it."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def failure_of(error: Exception, timeout: float) -> Failure:
    """Name what urllib3 raised; its own text is not shown, since it may hold addresses with passwords."""
    taken = not isinstance(error, _NOT_REACHED)
    if isinstance(error, urllib3.exceptions.SSLError):
        return Failure(
            "its certificate cannot be trusted; check base_url and this machine's certificates", False, taken
        )
    if isinstance(error, urllib3.exceptions.ProxyError):
        return Failure("the proxy in HTTPS_PROXY did not pass the request on", again=True, taken=taken)
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return Failure("no connection could be made; check base_url and the network", again=True, taken=taken)
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return Failure(f"no answer within {timeout:g} seconds", again=True, taken=taken)
    return Failure(f"the connection broke off ({type(error).__name__})", again=True, taken=taken)


def understood(content: bytes) -> Any:
    """Parse an answer's JSON, or return why it cannot be."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return Failure(f"its answer of {len(content)} bytes is no JSON", again=True, taken=True)


def refusal(status: int, headers: Mapping[str, str], content: bytes, key: str | None, variable: str | None) -> Failure:
    """Describe an answer that is not 200; services echo keys, so their words are cleaned before they are cut."""
    if 300 <= status < 400:
        reason = f"it answered {status}, a redirect, which is not followed; give the final address as base_url"
        return Failure(reason, again=False, taken=False)
    said = " ".join(_message_in(content, key).split())
    remedy = _REMEDIES.get(status, "").format(variable=variable or "its environment variable (none is named)")
    parts = [f"it answered {status}", said[:_QUOTED] and f": {said[:_QUOTED].rstrip('.')}", remedy and f"; {remedy}"]
    again = status in RETRIED
    return Failure("".join(parts), again=again, taken=False, wait=_asked_wait(headers) if again else None)


def _message_in(content: bytes, key: str | None) -> str:
    text = content.decode("utf-8", "replace")
    try:
        answer = redacted(json.loads(text), key)
    except (ValueError, RecursionError):
        return str(redacted(text, key))
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else json.dumps(answer, ensure_ascii=False)


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def redacted(value: Any, key: str | None) -> Any:
    """Replace the key, plain or encoded, in every string of a parsed answer."""
    if not key or len(key) < _SHORTEST_KEY:
        return value
    if isinstance(value, str):
        for form in _forms(key):
            value = value.replace(form, "[key]")
        return value
    if isinstance(value, list):
        return [redacted(item, key) for item in value]
    if isinstance(value, dict):
        return {redacted(name, key): redacted(item, key) for name, item in value.items()}
    return value


def _forms(key: str) -> set[str]:
    return {key, quote(key, safe=""), html.escape(key), base64.b64encode(key.encode()).decode()}
