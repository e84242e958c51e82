"""A real HTTP server on this machine with scripted replies: slow, broken, or none."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from PIL import Image

from pamela_rl.steering.http import EndpointSettings

KEY_VARIABLE = "A_SERVICE_KEY"
KEY = "sk-secret+9f8e7d/6c5b4a=="


@dataclass(frozen=True)
class Reply:
    """Attributes: ``delay`` before the answer, ``drip`` after each tenth of it; ``cut`` closes in its middle."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    time: float


class LocalServer:
    """Answers each request with the next of ``replies``, the last for ever; or with what ``answer`` returns for it."""

    def __init__(self, *replies: Reply, answer: Callable[[Request], Reply] | None = None):
        self._replies, self._answer, self._lock = list(replies), answer, threading.Lock()
        self.requests: list[Request] = []
        self.at_once = self.most_at_once = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._serve(self)

            do_GET = do_CONNECT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # clients that gave up

        self._server = Server(("127.0.0.1", 0), Handler)

    def __enter__(self) -> LocalServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def config(self, **changes: Any) -> EndpointSettings:
        patience = {"timeout": 5.0, "num_retries": 2, "backoff": 0.01, "max_backoff": 0.02, "requests_per_minute": 1e6}
        return EndpointSettings(self.url, **{"key_variable": KEY_VARIABLE, **patience, **changes})

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        content = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(
            handler.command, handler.path, headers, json.loads(content) if content else None, time.monotonic()
        )
        with self._lock:
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            scripted = self._replies.pop(0) if len(self._replies) > 1 else (self._replies or [None])[0]
        reply = self._answer(request) if self._answer else scripted
        assert reply is not None
        time.sleep(reply.delay)
        with self._lock:
            self.at_once -= 1  # before the client can know, or the next request could seem to overlap
        _send(handler, reply)


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    handler.send_response(reply.status)
    for name, value in {"Content-Length": str(len(reply.content)), **reply.headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    step = max(1, len(reply.content) // 10) if reply.drip or reply.cut else len(reply.content) or 1
    for place in range(0, len(reply.content) // (2 if reply.cut else 1), step):
        handler.wfile.write(reply.content[place : place + step])
        handler.wfile.flush()
        time.sleep(reply.drip)
    handler.close_connection = True


def png(colour: tuple[int, int, int] = (255, 0, 0), size: tuple[int, int] = (12, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def gemini(content: bytes) -> Reply:
    parts = [{"text": "Here it is."}, {"inlineData": {"mimeType": "image/png", "data": in_base64(content)}}]
    return Reply({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]})


def openai(content: bytes) -> Reply:
    return Reply({"created": 1, "data": [{"b64_json": in_base64(content)}]})


def says(text: str | None, **choice: Any) -> Reply:
    return Reply({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, **choice}]})
