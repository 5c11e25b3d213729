"""A network that can be cut: a proxy of this machine between a program and a server.

A cut says nothing to either end. What is sent meanwhile is still acknowledged, as by a middlebox
that hangs, so that no clock of TCP's own sees it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

Address = Path | tuple[str, int]


TICK_S = 0.02


class Network:
    """The way to a server, by a port of this machine."""

    def __init__(self, server: Address) -> None:
        self.server = server
        self.up = threading.Event()
        self.up.set()
        self.over = threading.Event()
        self.carriers: list[threading.Thread] = []
        self.wires: list[tuple[socket.socket, socket.socket]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(TICK_S)

    @property
    def port(self) -> int:
        found: int = self.listener.getsockname()[1]
        return found

    def url(self, url: str) -> str:
        """The server's URL by this way."""
        far = make_url(url).set(host="127.0.0.1", port=self.port, query={})
        return far.render_as_string(hide_password=False)

    def cut(self) -> None:
        """From here on nothing arrives, either way; whoever connects hears nothing."""
        self.up.clear()

    def mend(self, *, forget: bool) -> None:
        """Let through again what was held up.

        `forget`: as a router that was started again, connections from before the cut stay silent
        for ever, and the server is not told that they are over.
        """
        if forget:
            self.wires.clear()
        self.up.set()

    def reset(self) -> None:
        """End all connections, as a firewall does that says so."""
        for wire in self.wires:
            for end in wire:
                with contextlib.suppress(OSError):
                    at_once = struct.pack("ii", 1, 0)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                    end.close()
        self.wires.clear()

    def accept(self) -> None:
        """Take connections until all is over."""
        while not self.over.is_set():
            try:
                near, _ = self.listener.accept()
            except TimeoutError:
                continue
            self.carriers.append(threading.Thread(target=self._carry, args=(near,), daemon=True))
            self.carriers[-1].start()

    def _carry(self, near: socket.socket) -> None:
        """A connection's bytes, both ways, until an end closes it or it is forgotten."""
        family = socket.AF_UNIX if isinstance(self.server, Path) else socket.AF_INET
        address = str(self.server) if isinstance(self.server, Path) else self.server
        with near, socket.socket(family) as far, contextlib.suppress(OSError):
            while not self.up.wait(TICK_S):
                if self.over.is_set():
                    return
            far.connect(address)
            wire = (near, far)
            self.wires.append(wire)
            poll = select.poll()  # `select.select` knows only the first 1,024 descriptors
            for end in wire:
                poll.register(end, select.POLLIN)
            while not self.over.is_set():
                ready = [near if at == near.fileno() else far for at, _ in poll.poll(TICK_S * 1000)]
                if not self.up.is_set():
                    self.over.wait(TICK_S)
                    continue
                if wire not in self.wires:
                    self.over.wait()
                    return
                for end in ready:
                    if not (data := end.recv(2**16)):
                        return
                    (far if end is near else near).sendall(data)


@contextlib.contextmanager
def network(server: Address) -> Iterator[Network]:
    """A way to a server, by its socket's path or its host and port."""
    found = Network(server)
    accepting = threading.Thread(target=found.accept, daemon=True)
    accepting.start()
    try:
        yield found
    finally:
        found.over.set()
        for thread in (accepting, *found.carriers):
            thread.join()
        found.listener.close()
