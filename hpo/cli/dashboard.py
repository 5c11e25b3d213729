"""`hpo dashboard`: optuna-dashboard on a run's storage."""

from __future__ import annotations

import argparse
import hmac
import importlib
import secrets
import socketserver
from collections.abc import Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hpo.cli.options import DONE
from hpo.storage import run_folder
from hpo.storage.record import closing, guarded, load_study


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    serve(
        place.url,
        place.name,
        arguments.port,
        lambda text: print(text, flush=True),
        writable=arguments.writable,
    )
    return DONE


HOST = "127.0.0.1"


NAMES = (HOST, "localhost", "[::1]")


TOKEN = "token"


READING = ("GET", "HEAD")


REQUEST_S = 30.0
"""Seconds in which a request has to come whole; assumed."""


def serve(
    url: str, name: str, port: int, say: Callable[[str], None], *, writable: bool = False
) -> None:
    """Serve until interrupted; says where, without the storage's password.

    Raises:
        ValueError: optuna-dashboard is not installed, or the port cannot be used.
        StorageError: the storage cannot be used.
    """
    try:
        dashboard = importlib.import_module("optuna_dashboard")
    except ImportError:
        raise ValueError(
            "optuna-dashboard is not installed; install it with: pip install "
            "'plasticity-hpo[dashboard]'."
        ) from None
    if not 0 < port < 2**16:
        raise ValueError(f"--port must be from 1 to 65535, got {port}.")
    with guarded(url), closing(load_study(url, name, "write" if writable else "read")) as study:
        guard = Guard(dashboard.wsgi(study._storage), port, writable=writable)
        try:
            server = _Server((HOST, port), _Handler)
        except OSError as error:
            raise ValueError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port."
            ) from None
        with server:
            server.set_app(guard)
            at = f"http://{HOST}:{port}/dashboard/studies/{study._study_id}?{TOKEN}={guard.token}"
            say(f"Dashboard: {at} ({'' if writable else 'read-only; '}Ctrl-C ends it)")
            server.serve_forever()


class Guard:
    """A WSGI application that answers for another one, or refuses."""

    def __init__(self, inner: Callable[..., Any], port: int, *, writable: bool = False) -> None:
        self.inner, self.writable = inner, writable
        self.token, self.cookie = secrets.token_urlsafe(32), f"hpo-{port}"
        hosts = {f"{name}:{port}" for name in NAMES}
        self.hosts = hosts | set(NAMES) if port == 80 else hosts

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """See PEP 3333."""
        refusal = self._refusal(environ)
        if refusal is not None:
            status, reason = refusal
            return _answer(start, status, reason)
        given = dict(parse_qsl(environ.get("QUERY_STRING", "")))
        if TOKEN in given and environ["REQUEST_METHOD"] == "GET":
            rest = urlencode({key: value for key, value in given.items() if key != TOKEN})
            path = "/" + quote(environ.get("PATH_INFO", "").lstrip("/"))
            cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            to = f"{path}?{rest}" if rest else path
            return _answer(start, "303 See Other", "", ("Location", to), ("Set-Cookie", cookie))
        environ.setdefault("HTTP_ACCEPT_ENCODING", "")  # the dashboard reads it without a look
        found: Iterable[bytes] = self.inner(environ, start)
        return found

    def _refusal(self, environ: dict[str, Any]) -> tuple[str, str] | None:
        """Status and reason, if the request is not to be answered."""
        origin, method = environ.get("HTTP_ORIGIN"), environ["REQUEST_METHOD"]
        if environ.get("HTTP_HOST", "").lower() not in self.hosts:
            return "403 Forbidden", "This server is reached as 127.0.0.1 or localhost only."
        if origin is not None and origin.lower() not in {f"http://{each}" for each in self.hosts}:
            return "403 Forbidden", "Requests from other pages are refused."
        if not self._knows_token(environ):
            return "403 Forbidden", "Open the address that hpo dashboard printed."
        if method not in READING and not self.writable:
            return "405 Method Not Allowed", "Read-only; start hpo dashboard with --writable."
        return None

    def _knows_token(self, environ: dict[str, Any]) -> bool:
        given = dict(parse_qsl(environ.get("QUERY_STRING", ""))).get(TOKEN)
        if given is None:
            try:
                morsel = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(self.cookie)
            except CookieError:
                return False
            given = "" if morsel is None else morsel.value
        return hmac.compare_digest(given.encode(), self.token.encode())


def _answer(
    start: Callable[..., Any], status: str, text: str, *headers: tuple[str, str]
) -> list[bytes]:
    content = text.encode()
    kind = ("Content-Type", "text/plain; charset=utf-8")
    start(status, [kind, ("Content-Length", str(len(content))), *headers])
    return [content]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread a request: browsers open connections on which they say nothing for long."""

    daemon_threads = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without asking the network for this host's name
        self.server_name, self.server_port = HOST, self.server_address[1]
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def log_message(self, form: str, *given: object) -> None:
        """Nothing: addresses hold the token."""
