"""JSON over HTTP to a service that may be slow, busy or broken. The key is read when it is used, and shown nowhere."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.steering.answers import BrokenAnswer, Failure, Pace, failure_of, redacted, refusal, understood

_LOCAL = {"localhost", "127.0.0.1", "::1"}
_CHUNK = 2**16
Answer = TypeVar("Answer")
Strike = Callable[[], None]


@dataclass(frozen=True)
class ServiceConfig:
    """Where a service is, and how patient to be with it. Holds the name of the key's variable, never the key.

    Attributes:
        base_url: E.g. ``https://api.openai.com``; http:// only for this machine, since the key would travel readable.
        key_variable: Environment variable that holds the key; None for a service that wants none.
        timeout: Seconds one request may take.
        num_retries: Further attempts after a time-out, a lost connection, 429, 500, 502, 503, 504 or a broken answer.
        backoff: Seconds before the first retry, doubled before every other; up to half is taken off at random.
        max_backoff: Seconds no wait exceeds, whatever the service's ``Retry-After`` asks for.
        requests_per_minute: Most requests this client starts in a minute, evenly spaced.
        max_bytes: Most bytes an answer may have, unpacked.
    """

    base_url: str
    key_variable: str | None
    timeout: float = 120.0
    num_retries: int = 4
    backoff: float = 1.0
    max_backoff: float = 60.0
    requests_per_minute: float = 60.0
    max_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        try:
            url = urlsplit(self.base_url)
            port_is_a_number = url.port is None or url.port > 0
        except ValueError:
            port_is_a_number = False
        if not port_is_a_number or not url.hostname or url.username or url.password or url.query or url.fragment:
            # not shown: it may hold a key
            raise ConfigError("base_url is no plain address; give one such as https://api.openai.com, without a key.")
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOCAL):
            raise ConfigError(
                f"base_url is {self.base_url}; keys travel readable over anything but https: give an https:// address, "
                "or http://localhost for a service on this machine."
            )
        # a key pasted in the place of the variable's name must not be shown either
        if self.key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_variable):
            raise ConfigError(
                "key_variable is no name of an environment variable; give e.g. OPENAI_API_KEY, not the key."
            )
        for name in ("timeout", "requests_per_minute", "max_bytes"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a positive number.")
        for name in ("num_retries", "backoff", "max_backoff"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0.")

    @property
    def host(self) -> str:
        """The service's name for error sentences, e.g. ``api.openai.com``."""
        return urlsplit(self.base_url).netloc

    def url(self, path: str) -> str:
        """Return the address of a path; a base that ends in /v1 and a path that starts with it share it."""
        base = self.base_url.rstrip("/")
        return (base.removesuffix("/v1") if path.startswith("/v1/") else base) + path


class JsonClient:
    """Posts JSON and reads JSON; threads may share it.

    Redirects are never followed, proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``).

    Args:
        config: Where, and how patiently.
        key_header: Header that takes the key.
        key_prefix: What stands before the key in it.
    """

    def __init__(self, config: ServiceConfig, *, key_header: str = "Authorization", key_prefix: str = "Bearer "):
        self.config, self._key_header, self._key_prefix = config, key_header, key_prefix
        self._pool = _pool_for(config)
        self._pace = Pace(60.0 / config.requests_per_minute)
        self._random = random.Random()  # of its own: waiting changes no one else's random numbers

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        about: str,
        read: Callable[[Any], Answer],
        charge: Callable[[], Strike] | None = None,
    ) -> Answer:
        """Ask, and ask again where that can help.

        Args:
            path: Behind the base URL, starting with a slash.
            body: Sent as JSON.
            about: What is asked for, for error sentences, e.g. "a picture of 'a cat'".
            read: Takes what it needs from the parsed answer; it raises ``BrokenAnswer`` for one that is worth asking
                again, ``ServiceError`` for one that is not. No string it sees holds the key.
            charge: Called before every request. What it returns is called if the service did not take the request:
                it was not reached, or answered with an error. A request without any answer may have been taken.

        Raises:
            ServiceError: The service refused, was not reached, or answered nonsense to the last.
            ConfigError: The key is not in the environment.
        """
        self._key()
        content = json.dumps(body).encode()
        attempts = self.config.num_retries + 1
        for attempt in range(attempts):
            strike = charge() if charge else None
            self._pace.wait()
            outcome = _taken_from(self._send(path, content), read)
            if not isinstance(outcome, Failure):
                return outcome
            failure = outcome
            if strike and not failure.taken:
                strike()
            if not failure.again:
                raise ServiceError(f"{self.config.host} refused {about}: {failure.reason}.")
            if attempt + 1 < attempts:
                self._back_off(attempt, failure.wait)
        raise ServiceError(
            f"{self.config.host} did not give {about} in {attempts} attempts; of the last: {failure.reason}; "
            "try again later, or raise timeout or num_retries."
        )

    def _back_off(self, attempt: int, asked: float | None) -> None:
        drawn = min(self.config.backoff * 2.0**attempt, self.config.max_backoff) * self._random.uniform(0.5, 1.0)
        if asked is None:
            time.sleep(drawn)
        else:  # the service is busy for every thread, not for this one alone
            self._pace.hold(min(max(drawn, asked), self.config.max_backoff))

    def _send(self, path: str, body: bytes) -> Any:
        """Make one attempt. Errors leave as values: an exception would take this frame, and so the key, along."""
        key = self._key()
        headers = {"Accept-Encoding": "identity", "Accept": "application/json", "Content-Type": "application/json"}
        if key:
            headers[self._key_header] = self._key_prefix + key
        deadline = time.monotonic() + self.config.timeout
        try:
            response = self._pool.request(
                "POST",
                self.config.url(path),
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=self.config.timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                content = self._body_of(response, deadline)
            finally:
                response.close()  # what was not read of it must not be taken for the next answer
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return failure_of(error, self.config.timeout)
        if isinstance(content, Failure):
            return content
        if response.status != 200:
            return refusal(response.status, response.headers, content, key, self.config.key_variable)
        return redacted(understood(content), key)

    def _body_of(self, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes | Failure:
        content = bytearray()
        while chunk := response.read1(_CHUNK):
            content += chunk
            if len(content) > self.config.max_bytes:
                reason = f"its answer is larger than max_bytes, {self.config.max_bytes}; raise it or ask for less"
                return Failure(reason, again=False, taken=True)
            if time.monotonic() > deadline:
                reason = f"its answer was not complete after {self.config.timeout:g} seconds"
                return Failure(reason, again=True, taken=True)
        return bytes(content)

    def _key(self) -> str | None:
        name = self.config.key_variable
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not key:
            raise ConfigError(f"the environment variable {name} is not set; put the key of {self.config.host} there.")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(f"the environment variable {name} holds no key; it has blanks or letters no key has.")
        return key


def _taken_from(answer: Any, read: Callable[[Any], Answer]) -> Answer | Failure:
    if isinstance(answer, Failure):
        return answer
    try:
        return read(answer)
    except BrokenAnswer as error:
        return Failure(f"its answer is broken ({error})", again=True, taken=True)


def _pool_for(config: ServiceConfig) -> urllib3.PoolManager:
    url = urlsplit(config.base_url)
    proxy = getproxies().get("https")
    if url.scheme != "https" or not proxy or proxy_bypass(url.hostname or ""):
        return urllib3.PoolManager(maxsize=16)
    headers = urllib3.make_headers(proxy_basic_auth=urllib3.util.parse_url(proxy).auth)
    return urllib3.ProxyManager(proxy, maxsize=16, proxy_headers=headers)
