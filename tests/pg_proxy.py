"""A TCP proxy before a PostgreSQL: it cuts or freezes a connection at words that its client says.

Threads, loopback only; every connection ends with the proxy.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Self

from sqlalchemy import URL

COMMIT = b"COMMIT\0"
VERSION = b"pg_catalog.version"  # what SQLAlchemy asks a server that it has not met
WAIT_S_MAX = 60.0
CHUNK = 65536


class How(Enum):
    """What happens to a connection at the words that are waited for."""

    CUT_BEFORE = auto()  # they never reach the server
    CUT_AFTER = auto()  # the server has done them; its answer is lost
    FREEZE_BEFORE = auto()  # they wait here until the proxy heals
    FREEZE_AFTER = auto()  # the server has done them; its answer waits here


class Proxy:
    """Listens on a port of its own; `server` may be changed for connections to come."""

    def __init__(self, server: URL) -> None:
        self.server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._armed: tuple[bytes, int, How | Callable[[], object]] | None = None
        self._every_other = False
        self.strikes = 0
        self.struck = threading.Event()
        """The words that were waited for have been said, and what was to happen has happened."""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> URL:
        """The server's, through the proxy."""
        return self.server.set(host="127.0.0.1", port=self._listener.getsockname()[1])

    def at(
        self, how: How | Callable[[], object], number: int = 1, words: bytes = COMMIT, *, every_other: bool = False
    ) -> None:
        """When these words come for the `number`-th time from now on, do that; after a function they go on.

        `every_other`: and then let them by once, and do it again.
        """
        self.struck.clear()
        self._every_other = every_other
        with self._lock:
            self._armed = (words, number, how)

    def freeze(self) -> None:
        """Forward nothing any more, in no direction; connections stay open, new ones are taken and not served."""
        self._flows.clear()

    def heal(self) -> None:
        """Forward again, what waited first."""
        self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._flows.wait(WAIT_S_MAX)
        try:
            server = socket.create_connection((self.server.host or "", self.server.port or 5432), timeout=WAIT_S_MAX)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._open.append(server)
        cut_answer = threading.Event()
        threading.Thread(target=self._answers, args=(server, client, cut_answer), daemon=True).start()
        with suppress(OSError):
            while data := client.recv(CHUNK):
                how = self._said(data)
                if how is How.CUT_BEFORE:
                    break
                if how is How.CUT_AFTER:
                    cut_answer.set()
                elif how is How.FREEZE_BEFORE:
                    self.freeze()
                    self.struck.set()
                elif callable(how):
                    how()
                self._flows.wait(WAIT_S_MAX)
                if how is How.FREEZE_AFTER:
                    self.freeze()
                server.sendall(data)
                if how is not None and how is not How.CUT_AFTER:
                    self.struck.set()
        _shut(client, server)
        self.struck.set()

    def _answers(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK):
                if cut.is_set():
                    break
                self._flows.wait(WAIT_S_MAX)
                client.sendall(data)
        _shut(client, server)

    def _said(self, data: bytes) -> How | Callable[[], object] | None:
        with self._lock:
            if self._armed is None or self._armed[0] not in data:
                return None
            words, number, how = self._armed
            if number > 1:
                self._armed = (words, number - 1, how)
                return None
            self._armed = (words, 2, how) if self._every_other else None
            self.strikes += 1
            return how

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else whoever waits in accept() would take one more
        self._listener.close()
        self.heal()
        _shut(*self._open)


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
