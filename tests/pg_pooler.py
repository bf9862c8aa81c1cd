"""A transaction-mode pooler before a PostgreSQL: each transaction of a client is served by whichever session is idle.

It speaks just enough of the protocol to see where a transaction ends. Threads, loopback only; all ends with the pooler.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
from contextlib import suppress
from typing import Any, Self

import psycopg
from sqlalchemy import URL

WAIT_S_MAX = 30.0
ENCRYPTED = (80877103, 80877104)  # a client asks for TLS, or for GSSAPI
CANCEL = 80877102
TOLD = "server_version client_encoding standard_conforming_strings integer_datetimes DateStyle TimeZone".split()


class Pooler:
    """Listens on a port of its own; `careless`: who leaves amid a transaction leaves it to the next one."""

    def __init__(self, server: URL, sessions: int = 2, *, careless: bool = False) -> None:
        self._server, self._careless = server, careless
        self._sessions = [_connected(server) for _ in range(sessions)]
        # The same connections: libpq is asked only while nobody is served.
        self._sockets = [socket.socket(fileno=os.dup(session.fileno())) for session in self._sessions]
        self._idle: queue.Queue[int] = queue.Queue()
        for number, connection in enumerate(self._sockets):
            connection.settimeout(WAIT_S_MAX)
            self._idle.put(number)  # the one that was idle for longest serves next: never the same twice, when alone
        self.served: list[int] = []
        """Which session has served each transaction."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> URL:
        """The server's, through the pooler."""
        return self._server.set(host="127.0.0.1", port=self._listener.getsockname()[1])

    def ask(self, query: str) -> list[list[tuple[Any, ...]]]:
        """What each session answers, when all are idle."""
        return [session.execute(query.encode()).fetchall() for session in self._sessions]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(WAIT_S_MAX)
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        session: int | None = None
        said = b""
        with client, suppress(OSError, EOFError):
            if not self._let_in(client):
                return
            try:
                while True:
                    kind, message = _message(client)
                    if kind == b"X":
                        break
                    if session is None:
                        session = self._idle.get(timeout=WAIT_S_MAX)
                        self.served.append(session)
                    said += message
                    if kind not in b"QS":
                        continue  # the server answers when it is told that this was all
                    self._sockets[session].sendall(said)
                    said, answer = b"", _answer(self._sockets[session])
                    if answer[-1:] == b"I":
                        self._idle.put(session)
                        session = None
                    client.sendall(answer)
            finally:
                if session is not None:
                    self._left(session)

    def _let_in(self, client: socket.socket) -> bool:
        while True:
            (length,) = struct.unpack("!i", _exactly(client, 4))
            (code,) = struct.unpack("!i", _exactly(client, length - 4)[:4])
            if code == CANCEL:
                return False
            if code not in ENCRYPTED:
                break
            client.sendall(b"N")
        parts = [_packed(b"R", struct.pack("!i", 0))]
        for name in TOLD:
            value = self._sessions[0].info.parameter_status(name) or ""
            parts.append(_packed(b"S", f"{name}\0{value}\0".encode()))
        client.sendall(b"".join((*parts, _packed(b"K", struct.pack("!ii", 1, 1)), _packed(b"Z", b"I"))))
        return True

    def _left(self, session: int) -> None:
        if not self._careless:
            self._sockets[session].sendall(_packed(b"Q", b"ROLLBACK\0"))
            _answer(self._sockets[session])
        self._idle.put(session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._clients, *self._sockets):
            one.close()
        for session in self._sessions:
            session.close()


def _connected(server: URL) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=server.host or "",
        port=server.port or 5432,
        user=server.username,
        password=server.password,
        dbname=server.database,
        sslmode="disable",
        autocommit=True,
        prepare_threshold=None,
    )


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    """Its kind, and all of it."""
    head = _exactly(source, 5)
    return head[:1], head + _exactly(source, struct.unpack("!i", head[1:])[0] - 4)


def _answer(server: socket.socket) -> bytes:
    """Everything until it is ready again; the last byte: idle, in a transaction, or in one that has failed."""
    told = b""
    while True:
        kind, message = _message(server)
        told += message
        if kind == b"Z":
            return told


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = source.recv(count - len(found))
        if not part:
            raise EOFError
        found += part
    return found
