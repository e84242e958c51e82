"""A local server that answers huggingface_hub's own client as the hub does, and keeps what is committed."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class HubServer:
    """Attributes: ``repositories`` maps ids to whether they are private; ``commits`` lists each commit's files."""

    def __init__(self, **repositories: bool):
        self.repositories: dict[str, bool] = repositories
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                told = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, answer = server._answer(self.path, content) if told else (401, {"error": "Who are you?"})
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, content: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in self.repositories
            self.repositories.setdefault(name, asked.get("private") or asked.get("visibility") == "private")
            return 409 if known else 200, {"url": f"{self.url}/{name}", "id": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            files = json.loads(content)["files"]
            return 200, {
                "files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            }
        if "/commit/" in path:
            rows = [json.loads(line) for line in content.splitlines()]
            files = {row["value"]["path"]: row["value"]["content"] for row in rows if row["key"] == "file"}
            name = path.removeprefix("/api/models/").split("/commit/")[0]
            self.commits.append((name, {file: base64.b64decode(text) for file, text in files.items()}))
            return 200, {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.url}/{name}/commit/{'0' * 40}"}
        name = path.removeprefix("/api/models/")
        return 200, {"id": name, "private": self.repositories[name], "siblings": [], "tags": []}


TOKEN = "hf_secretsecretsecret"
