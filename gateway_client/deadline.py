"""A database that stops answering: its connection is cut from here, so that no call waits for ever.

The server's own timeouts end what the server still works on. They end nothing when it, or a pooler before it, was
stopped, or when the network swallows what is said: TCP alone would wait for hours, or for ever.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Self
from weakref import WeakSet

from sqlalchemy import Engine, Pool, event

_current: ContextVar[Deadline | None] = ContextVar("charge_once_deadline", default=None)


class Deadline:
    """Within it, every connection that is opened or taken from the pool is cut when the time is over."""

    def __init__(self, seconds: float | None) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False
        # A thread of its own: whoever waits for the database does nothing else.
        self._timer = None if seconds is None else threading.Timer(seconds, self._cut)
        self._token: Token[Deadline | None] | None = None

    def guard(self, number: int) -> None:
        """Cut the socket of this number in time. A copy of it is kept: the number itself may soon be another's."""
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(number)))
        if self._over:
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            self._over = True
            for one in self._sockets:
                with suppress(OSError):  # it is cut already
                    one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._token = _current.set(self)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is None or self._token is None:
            return
        self._timer.cancel()
        _current.reset(self._token)
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()


_guarded: WeakSet[Pool] = WeakSet()  # SQLAlchemy's `event.contains` takes a new object for a dead one at its address


def guard(engine: Engine) -> None:
    """Let deadlines know of the connections of an engine."""
    if engine.pool not in _guarded:
        _guarded.add(engine.pool)
        event.listen(engine, "connect", _guard, insert=True)  # before SQLAlchemy asks a new server for its version
        event.listen(engine, "checkout", _guard)


def _guard(_: object, record: Any, *of_the_pool: object) -> None:
    deadline, connection = _current.get(), record.driver_connection
    if deadline is not None and not connection.closed:
        deadline.guard(connection.fileno())
