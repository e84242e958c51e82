"""HTTP responses of services: parsing, failures described without the API key, and rate limiting."""

from __future__ import annotations

import base64
import email.utils
import html
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import urllib3

from pamela_rl.errors import ServiceError

RETRYABLE = {429, 500, 502, 503, 504}
_MAX_MESSAGE_LENGTH = 300  # characters of a service's own message
_MIN_KEY_LENGTH = 8  # shorter ones are placeholders of local servers ("none", "EMPTY") and common words
_TOP_UP = "the quota or credit behind {variable} is used up: add some, or wait until it is renewed"
_REMEDIES = {
    400: "change the request",
    401: "check the key in {variable}",
    402: _TOP_UP,
    403: "check the key in {variable} and what it may do",
    404: "check the model's name and base_url",
}
# in an error's code or type; the message is no sign: Gemini speaks of quota and billing at every rate limit
_USED_UP = re.compile(r"quota|billing|credit|balance", re.IGNORECASE)
_NOT_REACHED = (
    urllib3.exceptions.ConnectTimeoutError,  # and its child NewConnectionError
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
)


class InvalidResponse(Exception):
    """A response without the requested content that may succeed on a retry; never leaves this package."""


class RequestRefused(ServiceError):
    """A request that the service refused.

    Args:
        text: The sentence.
        status: Of the response; None where the refusal is not the service's own.
        message: The service's own words.
    """

    def __init__(self, text: str, status: int | None, message: str):
        super().__init__(text)
        self.status, self.message = status, message


@dataclass(frozen=True)
class RequestFailure:
    """Why a request failed.

    Attributes:
        reason: In words, without the key.
        retryable: Whether another attempt may help.
        may_be_charged: Whether the service may have processed, and charged for, the request.
        retry_after: Seconds the service asks to wait, or None.
        status: Of an error response; None for other failures.
        message: The service's own words, without the key.
    """

    reason: str
    retryable: bool
    may_be_charged: bool
    retry_after: float | None = None
    status: int | None = None
    message: str = ""


class RateLimiter:
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
        while (remaining := start - time.monotonic()) > 0:
            time.sleep(remaining)

    def pause(self, seconds: float) -> None:
        """Start no further request for some seconds; requests that already wait keep their slot."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def connection_failure(error: Exception, timeout: float) -> RequestFailure:
    """Describe an error of urllib3; its own text is left out, since it may contain addresses with passwords."""
    may_be_charged = not isinstance(error, _NOT_REACHED)
    if isinstance(error, urllib3.exceptions.SSLError):
        return RequestFailure(
            "its certificate cannot be trusted; check base_url and this machine's certificates", False, may_be_charged
        )
    if isinstance(error, urllib3.exceptions.ProxyError):
        return RequestFailure(
            "the proxy in HTTPS_PROXY did not pass the request on", retryable=True, may_be_charged=may_be_charged
        )
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return RequestFailure(
            "no connection could be made; check base_url and the network", retryable=True, may_be_charged=may_be_charged
        )
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return RequestFailure(f"no answer within {timeout:g} seconds", retryable=True, may_be_charged=may_be_charged)
    return RequestFailure(
        f"the connection broke off ({type(error).__name__})", retryable=True, may_be_charged=may_be_charged
    )


def parse_json(content: bytes) -> Any:
    """Parse a response's JSON, or return a failure."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return RequestFailure(f"its answer of {len(content)} bytes is no JSON", retryable=True, may_be_charged=True)


def error_response(
    status: int, headers: Mapping[str, str], content: bytes, key: str | None, variable: str | None
) -> RequestFailure:
    """Describe a response other than 200; services may echo the key, so it is redacted before the message is cut."""
    if 300 <= status < 400:
        reason = f"it answered {status}, a redirect, which is not followed; give the final address as base_url"
        return RequestFailure(reason, retryable=False, may_be_charged=False)
    error = _error(content, key)
    message = " ".join(_error_message(error).split())
    used_up = _is_used_up(error)
    remedy = (_TOP_UP if used_up else _REMEDIES.get(status, "")).format(
        variable=variable or "its environment variable (none is named)"
    )
    excerpt = message[:_MAX_MESSAGE_LENGTH]
    parts = [f"it answered {status}", excerpt and f": {excerpt.rstrip('.')}", remedy and f"; {remedy}"]
    retryable = status in RETRYABLE and not used_up
    retry_after = _retry_after(headers) if retryable else None
    return RequestFailure("".join(parts), retryable, False, retry_after, status, excerpt)


def _error(content: bytes, key: str | None) -> Any:
    """Return the ``error`` of a response's JSON, the whole JSON where it has none, or the text where it is none."""
    text = content.decode("utf-8", "replace")
    try:
        body = redact(json.loads(text), key)
    except (ValueError, RecursionError):
        return redact(text, key)
    return body.get("error", body) if isinstance(body, dict) else body


def _error_message(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else json.dumps(error, ensure_ascii=False)


def _is_used_up(error: Any) -> bool:
    """Tell whether a quota or a credit is used up, which no retry mends, rather than requests being too frequent."""
    if not isinstance(error, dict):
        return False
    if _USED_UP.search(f"{error.get('code')} {error.get('type')}"):
        return True
    # Gemini names the quota: "...PerDay..." is not renewed within a run, and a limit of 0 never
    details = error.get("details")
    named = (
        [detail.get("violations") for detail in details if isinstance(detail, dict)]
        if isinstance(details, list)
        else []
    )
    violations = [
        entry for entries in named if isinstance(entries, list) for entry in entries if isinstance(entry, dict)
    ]
    return any("PerDay" in str(v.get("quotaId")) or str(v.get("quotaValue")) == "0" for v in violations)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def redact(value: Any, key: str | None) -> Any:
    """Replace the key, plain or encoded, in every string of a parsed response."""
    if not key or len(key) < _MIN_KEY_LENGTH:
        return value
    if isinstance(value, str):
        for encoding in _encodings(key):
            value = value.replace(encoding, "[key]")
        return value
    if isinstance(value, list):
        return [redact(item, key) for item in value]
    if isinstance(value, dict):
        return {redact(name, key): redact(item, key) for name, item in value.items()}
    return value


def _encodings(key: str) -> set[str]:
    return {key, quote(key, safe=""), html.escape(key), base64.b64encode(key.encode()).decode()}
