"""Read what a process has used: processor time, the most memory it had, the statements it gave to its database."""

from __future__ import annotations

import resource
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START", "END")


def cpu_s() -> float:
    """Return the user and system time of this process with all of its threads, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_bytes() -> int:
    """Return the most memory that this process has had.

    `ru_maxrss` will not do: it begins with the memory of the process that this one was started from.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def verb(statement: str) -> str:
    """Return the first word of a statement, in capitals."""
    words = statement.split(None, 1)
    return words[0].rstrip(";").upper() if words else ""


def is_control(word: str) -> bool:
    """Return whether a first word begins, ends or divides a transaction, rather than reads or writes."""
    return word in CONTROL


class Statements:
    """Count statements from two sides: as SQLAlchemy gives them out, and as SQLite itself gets them."""

    def __init__(self) -> None:
        self.by_sqlalchemy: Counter[str] = Counter()
        self.by_sqlite: Counter[str] = Counter()

    def watch(self) -> None:
        """Begin to count those of every engine and every SQLite connection that is made from now on."""
        event.listen(Engine, "before_cursor_execute", self._executing)
        really = sqlite3.connect

        def connect(*values: Any, **named: Any) -> sqlite3.Connection:
            made: sqlite3.Connection = really(*values, **named)
            made.set_trace_callback(lambda statement: self.by_sqlite.update([verb(statement)]))
            return made

        sqlite3.connect = sqlite3.dbapi2.connect = connect  # type: ignore[assignment]

    def _executing(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.by_sqlalchemy[verb(statement)] += 1
