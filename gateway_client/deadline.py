"""A database that stops answering: its connection is cut from here, so that no call waits for ever.

The server's own timeouts end what the server still works on. They end nothing when it, or a pooler before it, was
stopped, or when the network swallows what is said: TCP alone would wait for hours, or for ever.
"""

from __future__ import annotations

import os
import socket
import threading
import time
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
        self._seconds, self.at = seconds, 0.0
        self._token: Token[Deadline | None] | None = None

    def guard(self, number: int) -> None:
        """Cut the socket of this number in time. A copy of it is kept: the number itself may soon be another's."""
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(number)))
        if self._over:
            self.cut()

    def cut(self) -> None:
        """Cut what was opened within it, and what will be."""
        with self._lock:
            self._over = True
            for one in self._sockets:
                with suppress(OSError):  # it is cut already
                    one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        if self._seconds is not None:
            self._token = _current.set(self)
            self.at = time.monotonic() + self._seconds
            _watchdog.watch(self)
        return self

    def __exit__(self, *error: object) -> None:
        if self._token is None:
            return
        _watchdog.forget(self)
        _current.reset(self._token)
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()


class _Watchdog:
    """One thread for all deadlines of a process: whoever waits for the database does nothing else."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget every deadline: a child of a fork has neither its parent's thread nor its transactions."""
        self._changed = threading.Condition(threading.Lock())
        self._deadlines: set[Deadline] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def watch(self, deadline: Deadline) -> None:
        with self._changed:
            self._deadlines.add(deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="charge-once deadlines", daemon=True)
                self._thread.start()
            elif deadline.at < self._wakes_at:
                self._changed.notify()

    def forget(self, deadline: Deadline) -> None:
        with self._changed:
            self._deadlines.discard(deadline)

    def _run(self) -> None:
        changed = self._changed
        with changed:
            while True:
                now = time.monotonic()
                for one in [one for one in self._deadlines if one.at <= now]:
                    self._deadlines.discard(one)
                    one.cut()
                self._wakes_at = min((one.at for one in self._deadlines), default=now + _IDLE_S)
                changed.wait(max(0.0, self._wakes_at - now))


_IDLE_S = 3600.0
_watchdog = _Watchdog()
os.register_at_fork(after_in_child=_watchdog.begin_anew)

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
