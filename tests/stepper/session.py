"""One actor: a process with a database of its own; before each statement and each commit it waits to be let go on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import event

from gateway_client import postgres
from tests.stepper.doing import attempted
from tests.stepper.ground import opened
from tests.stepper.touch import EVERY, NOBODY, Touch, of_statement

Work = Callable[["Session"], Any]


DEADLOCK = "40P01"
CLOSED_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """What an actor is about to do."""

    text: str
    touch: Touch


class Session:
    """One actor. `step` is what it is about to do, None when its work is over."""

    def __init__(self, url: str) -> None:
        self.database = opened(url)
        self.step: Step | None = None
        self.result: Any = None
        self.pid = 0
        self.revised = 0  # rows of charges that its committed transactions have given another revision
        self.deadlocks = 0
        self._held, self._since, self._revised = Touch(), Touch(), 0
        self._revised_before = 0  # by the works of a group that came before
        self._reading = self._seen = False
        self._undone: list[Touch] = []
        self._works: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._go, self._here = threading.Semaphore(0), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        engine = self.database._engine
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "commit", self._commit)
        event.listen(engine, "rollback", self._rollback)
        event.listen(engine, "handle_error", self._hear)

    def begin(self, work: Work) -> None:
        """Begin a work, up to its first statement."""
        self.result, self.revised, self.deadlocks = None, 0, 0
        self._here.clear()
        self._works.put(work)

    def let_go(self) -> None:
        """Let it do its step."""
        self._here.clear()
        self._go.release()

    def undone(self) -> list[Touch]:
        """What was rolled back since somebody asked."""
        undone = [touch for touch in self._undone if touch.writes | touch.locks | touch.numbers]
        self._undone.clear()
        return undone

    def arrived(self, seconds: float) -> bool:
        """Wait until it has done its step, and is before the next one or at its end."""
        return self._here.wait(seconds)

    def pause(self, why: str) -> None:
        """Wait within its work, as before a statement."""
        self._stop(why, Touch())

    def close(self) -> None:
        """End the thread and close the connection; a thread amid a work that nobody goes on with is left."""
        self._works.put(None)
        self._thread.join(CLOSED_S_MAX)
        self.database.close()

    def _run(self) -> None:
        while (work := self._works.get()) is not None:
            self.result = attempted(partial(work, self))
            self.step = None
            self._here.set()

    def _stop(self, text: str, touch: Touch) -> None:
        if threading.current_thread() is not self._thread:
            return
        self.step = Step(text, touch)
        self._here.set()
        self._go.acquire()
        self._held, self._since = self._held | touch, self._since | touch

    def _begin(self, connection: Any) -> None:
        self._held, self._since, self._revised, self._revised_before, self._seen = Touch(), Touch(), 0, 0, False
        self._reading = connection.get_execution_options().get("isolation_level") == postgres.ISOLATION_READING

    def _before(self, connection: Any, cursor: Any, statement: str, *more: object) -> None:
        self.pid = connection.connection.driver_connection.info.backend_pid
        touch = of_statement(statement)
        if self._reading:  # all that it reads is of the moment of its first statement
            touch, self._seen = Touch(reads=NOBODY if self._seen else EVERY), True
        elif statement.startswith("ROLLBACK"):
            touch, self._revised = self._since.commit, self._revised_before
        elif "SAVEPOINT" in statement:
            self._since, self._revised_before = Touch(), self._revised
        self._stop(" ".join(statement.split()), touch)

    def _after(self, connection: Any, cursor: Any, statement: str, *more: object) -> None:
        if statement.startswith("UPDATE pending_charges") and "revision + 1" in statement:
            self._revised += cursor.rowcount

    def _commit(self, connection: Any) -> None:
        self._stop("COMMIT", self._held.commit)
        self.revised += self._revised

    def _hear(self, context: Any) -> None:
        self._undone.append(self._since.commit)  # a work of a group lets go of its locks as it fails
        self.deadlocks += getattr(context.original_exception, "sqlstate", None) == DEADLOCK

    def _rollback(self, connection: Any) -> None:
        self._undone.append(self._held.commit)
