"""A Hugging Face hub on localhost that takes pushes and notes them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_aVerySecretToken"


class FakeHub:
    """What was pushed: repositories with their privacy, and the files of each."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.refuses = False
        """Whether every token is refused."""


class Server(ThreadingHTTPServer):
    """Serves one hub."""

    hub: FakeHub


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does, as far as a push asks."""

    server: Server

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Who the token is of, or what is known of a repository."""
        hub, repo = self.server.hub, self.path.removeprefix("/api/models/").split("?")[0]
        if self._refused():
            return
        if self.path.startswith("/api/whoami"):
            self._send({"name": "me", "type": "user", "auth": {}})
        elif repo in hub.private:
            self._send({"id": repo, "private": hub.private[repo], "siblings": [], "tags": []})
        else:
            self._send({"error": "Repository not found"}, 404, "RepoNotFound")

    def do_POST(self) -> None:
        """Make a repository, or take a push."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._refused():
            return
        if self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            paths = [each["path"] for each in json.loads(body)["files"]]
            kept = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
            self._send({"files": kept})
        elif "/commit/" in self.path:
            self._commit("/".join(self.path.split("/")[3:5]), body)
        else:
            self._send({"errors": [], "warnings": []})

    def _create(self, data: dict[str, Any]) -> None:
        name = f"{data.get('organization') or 'me'}/{data['name']}"
        private = data.get("private", data.get("visibility") == "private")
        self.server.hub.private.setdefault(name, private)
        self._send({"url": f"https://huggingface.co/{name}", "id": name, "name": name})

    def _commit(self, repo: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        files = [line["value"] for line in lines if line["key"] == "file"]
        self.server.hub.files[repo] = {
            each["path"]: base64.b64decode(each["content"]) for each in files
        }
        self._send({"commitUrl": f"https://huggingface.co/{repo}/commit/1", "commitOid": "1" * 40})

    def _refused(self) -> bool:
        token = self.headers.get("Authorization", "")
        refused = self.server.hub.refuses or token != f"Bearer {TOKEN}"
        if refused:
            self._send({"error": f"Invalid token {token}"}, 401)
        return refused

    def _send(self, data: Any, status: int = 200, error: str | None = None) -> None:
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if error is not None:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[tuple[FakeHub, str]]:
    """The hub, and its address."""
    server = Server(("127.0.0.1", 0), Handler)
    server.hub = FakeHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
