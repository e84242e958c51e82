"""JSON over HTTP with retries and rate limiting. The API key is read when it is used, and never shown."""

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
from pamela_rl.steering.addresses import is_local
from pamela_rl.steering.responses import (
    InvalidResponse,
    RateLimiter,
    RequestFailure,
    RequestRefused,
    connection_failure,
    error_response,
    parse_json,
    redact,
)

_CHUNK = 2**16
Result = TypeVar("Result")
Refund = Callable[[], None]


@dataclass(frozen=True)
class EndpointSettings:
    """Address of a service, with time-outs, retries and limits. Holds the name of the key's variable, never the key.

    Attributes:
        base_url: E.g. ``https://api.openai.com``; http:// only in the local network, since the key is sent in clear text.
        key_variable: Environment variable that holds the key; None for a service without one.
        timeout: Seconds one request may take.
        num_retries: Further attempts after a time-out, a lost connection, 429, 500, 502, 503, 504 or an invalid response;
            none where a quota or a credit is used up.
        backoff: Seconds before the first retry, doubled for each further one, with up to half subtracted at random.
        max_backoff: Longest wait in seconds, also where ``Retry-After`` asks for more.
        requests_per_minute: Most requests this client starts per minute, evenly spaced.
        max_bytes: Largest response in bytes, unpacked.
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
            # not shown: it may contain a key
            raise ConfigError("base_url is no plain address; give one such as https://api.openai.com, without a key.")
        if url.scheme != "https" and not (url.scheme == "http" and is_local(url.hostname)):
            raise ConfigError(
                f"base_url is {self.base_url}; keys are sent in clear text over anything but https: give an https:// address, "
                "or http:// with a host of your own network, e.g. http://localhost:8000, http://192.168.1.20 or http://nas.local."
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
        """The service's name for error messages, e.g. ``api.openai.com``."""
        return urlsplit(self.base_url).netloc

    def url(self, path: str) -> str:
        """Return the address of a path; a base that ends in /v1 and a path that starts with it share it."""
        base = self.base_url.rstrip("/")
        return (base.removesuffix("/v1") if path.startswith("/v1/") else base) + path


class JsonClient:
    """Posts JSON and reads JSON; threads may share it.

    Redirects are never followed, proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``).

    Args:
        config: Address, time-outs and limits.
        key_header: HTTP header of the key.
        key_prefix: Text before the key in that header.
    """

    def __init__(self, config: EndpointSettings, *, key_header: str = "Authorization", key_prefix: str = "Bearer "):
        self.config, self._key_header, self._key_prefix = config, key_header, key_prefix
        self._pool = _pool_for(config)
        self._rate_limiter = RateLimiter(60.0 / config.requests_per_minute)
        self._random = random.Random()  # leaves the global random state untouched

    def post(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        description: str,
        read: Callable[[Any], Result],
        charge: Callable[[], Refund] | None = None,
    ) -> Result:
        """Send a request, with retries where they can help.

        Args:
            path: Behind the base URL, starting with a slash.
            body: Sent as JSON.
            description: Of the request, for error messages, e.g. "a picture of 'a cat'".
            read: Extracts the result from the parsed response; raises ``InvalidResponse`` to retry, ``ServiceError`` to
                give up. The key is redacted in what it gets.
            charge: Called before every attempt. It returns a refund, which is called if the service was not reached or
                answered with an error. An attempt without any response is not refunded.

        Raises:
            RequestRefused: The service refused; another attempt would not help.
            ServiceError: It was not reached, or gave no valid response in all attempts.
            ConfigError: The key is not in the environment.
        """
        self._key()
        content = json.dumps(body).encode()
        attempts = self.config.num_retries + 1
        for attempt in range(attempts):
            refund = charge() if charge else None
            self._rate_limiter.wait()
            result = _parse_response(self._send(path, content), read)
            if not isinstance(result, RequestFailure):
                return result
            failure = result
            if refund and not failure.may_be_charged:
                refund()
            if not failure.retryable:
                raise RequestRefused(
                    f"{self.config.host} refused {description}: {failure.reason}.", failure.status, failure.message
                )
            if attempt + 1 < attempts:
                self._back_off(attempt, failure.retry_after)
        raise ServiceError(
            f"{self.config.host} did not give {description} in {attempts} attempts; of the last: {failure.reason}; "
            "try again later, or raise timeout or num_retries."
        )

    def _back_off(self, attempt: int, retry_after: float | None) -> None:
        backoff = min(self.config.backoff * 2.0**attempt, self.config.max_backoff) * self._random.uniform(0.5, 1.0)
        if retry_after is None:
            time.sleep(backoff)
        else:  # the service is busy for every thread, not for this one alone
            self._rate_limiter.pause(min(max(backoff, retry_after), self.config.max_backoff))

    def _send(self, path: str, body: bytes) -> Any:
        """Make one attempt. Errors are returned: a raised exception would keep this frame, and with it the key."""
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
                content = self._read_body(response, deadline)
            finally:
                response.close()  # unread bytes must not become part of the next response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return connection_failure(error, self.config.timeout)
        if isinstance(content, RequestFailure):
            return content
        if response.status != 200:
            return error_response(response.status, response.headers, content, key, self.config.key_variable)
        return redact(parse_json(content), key)

    def _read_body(self, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes | RequestFailure:
        content = bytearray()
        while chunk := response.read1(_CHUNK):
            content += chunk
            if len(content) > self.config.max_bytes:
                reason = f"its answer is larger than max_bytes, {self.config.max_bytes}; raise it or ask for less"
                return RequestFailure(reason, retryable=False, may_be_charged=True)
            if time.monotonic() > deadline:
                reason = f"its answer was not complete after {self.config.timeout:g} seconds"
                return RequestFailure(reason, retryable=True, may_be_charged=True)
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


def _parse_response(answer: Any, read: Callable[[Any], Result]) -> Result | RequestFailure:
    if isinstance(answer, RequestFailure):
        return answer
    try:
        return read(answer)
    except InvalidResponse as error:
        return RequestFailure(f"its answer is broken ({error})", retryable=True, may_be_charged=True)


def _pool_for(config: EndpointSettings) -> urllib3.PoolManager:
    url = urlsplit(config.base_url)
    proxy = getproxies().get("https")
    if url.scheme != "https" or not proxy or proxy_bypass(url.hostname or ""):
        return urllib3.PoolManager(maxsize=16)
    headers = urllib3.make_headers(proxy_basic_auth=urllib3.util.parse_url(proxy).auth)
    return urllib3.ProxyManager(proxy, maxsize=16, proxy_headers=headers)
