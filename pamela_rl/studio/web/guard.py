"""What every request passes before anything else looks at it, and what every answer carries."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.watch import Meter, logger
from pamela_rl.studio.web.rates import Rates
from pamela_rl.studio.web.strings import say
from pamela_rl.studio.web.visitor import SAFE_METHODS

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
SMALL_BODY = 2**20  # of requests that bring no files
WITH_FILES = ("/api/pictures", "/api/imports")


class Guard:
    """Refuses requests for other hosts, from other sites, too many, and too large; times, counts and logs all.

    A name that a stranger lets point to this machine is no host of the studio (DNS rebinding): addresses and the settings'
    ``names`` are.

    Args:
        app: The application.
        settings: Of the studio.
        rates: Of requests.
        meter: What counts.
    """

    def __init__(self, app: ASGIApp, settings: StudioSettings, rates: Rates, meter: Meter):
        self.app, self.settings, self.rates, self.meter = app, settings, rates, meter
        self._names = {name.lower() for name in settings.names} | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, _Reply(scope, send))

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        began = time.perf_counter()
        scope.setdefault("state", {}).update(person=None, csrf="", people=[])
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, self._bounded(scope, receive, reply), reply)
            else:
                await refusal(scope, receive, reply)
        except Exception:
            logger.exception("broken")
            if not reply.status:
                await _sentence(500, "broken")(scope, receive, reply)
        if reply.too_large:
            await reply.refuse_too_large(scope, receive)
        self._record(scope, reply.status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _sentence(400, "host")
        origin = headers.get("origin")
        scheme = "https" if self.settings.https else scope["scheme"]
        if scope["method"] not in SAFE_METHODS and (
            (origin is not None and origin.lower() != f"{scheme}://{host}".lower())
            or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        ):
            return _sentence(403, "origin")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most(scope):
            return _sentence(413, "too_large", most=self._most(scope) // 2**20)
        wait = 0.0 if self.settings.loopback else self.rates.take("request", address(scope))
        return too_often(wait) if wait else None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ip = ipaddress.ip_address(name)
        except ValueError:
            return False
        return ip.is_loopback or not self.settings.loopback

    def _most(self, scope: Scope) -> int:
        return self.settings.uploads.megabytes * 2**20 if scope["path"].startswith(WITH_FILES) else SMALL_BODY

    def _bounded(self, scope: Scope, receive: Receive, reply: _Reply) -> Receive:
        """Return a body that ends where it is larger than it may be, whatever it said of its length."""
        seen, most = 0, self._most(scope)

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen <= most:
                return message
            reply.too_large = most // 2**20 or 1
            return {"type": "http.disconnect"}

        return bounded

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or (
            "/static" if scope["path"].startswith("/static/") else "none"
        )
        person = scope["state"].get("person")
        self.meter.count(scope["method"] if scope["method"].isalpha() else "?", route, status, seconds)
        about = {
            "method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1000, 1),
            "person": person.id if person else "", "address": address(scope),
        }  # fmt: skip
        logger.info("request", extra={"about": about})


class _Reply:
    """Sends an answer with the headers that all have, and remembers its status."""

    def __init__(self, scope: Scope, send: Send):
        self.scope, self.send = scope, send
        self.status, self.too_large = 0, 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if self.too_large and not self.status:
            return  # what the application makes of a body that was cut off
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-cache" if self.scope["path"].startswith("/static/") else "no-store")
        await self.send(message)

    async def refuse_too_large(self, scope: Scope, receive: Receive) -> None:
        """Say so, unless something was said already."""
        if not self.status:
            most, self.too_large = self.too_large, 0
            await _sentence(413, "too_large", most=most)(scope, receive, self)


def address(scope: Scope) -> str:
    """Return from where a request came."""
    return str(scope["client"][0]) if scope.get("client") else ""


def too_often(wait: float) -> JSONResponse:
    """Return the answer to who has asked too often."""
    seconds = int(wait) + 1
    answer = _sentence(429, "too_often", n=seconds)
    answer.headers["retry-after"] = str(seconds)
    return answer


def _sentence(status: int, key: str, **values: object) -> JSONResponse:
    return JSONResponse({"error": say(f"errors.{key}", **values)}, status)
