"""The same store as a file, behind the library's own `Database`: a sample of the schedules runs on it a second time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from gateway_client.db import Database
from gateway_client.errors import StoreUnavailable
from gateway_client.tables import Base
from gateway_client.transaction import machine_time
from tests.sim.memory import Memory, Saved

T = TypeVar("T")
_TABLES = Base.metadata.sorted_tables


class OnDisk:
    """A store in a file, with the same words as `Memory`."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "store.db")
        self._inside = Database(f"sqlite:///{self.path}")
        self._inside.create()
        self._hand = sqlite3.connect(self.path, isolation_level=None)
        self.in_transaction = False
        self.trouble: str | None = None

    @property
    def database(self) -> OnDisk:
        """What a client is given."""
        return self

    def transact(
        self,
        work: Callable[[Any], T],
        *,
        time: Callable[[], datetime] = machine_time,
        write: bool = True,
        repeatable: bool = True,
        intent_id: str | None = None,
        ahead: object = None,
    ) -> T:
        """As `Database.transact`; what troubles a commit is told in `trouble`."""
        trouble, self.trouble = self.trouble, None

        def troubled(tx: Any) -> T:
            tx.actor = "schedule@sim"  # the same on every machine
            result = work(tx)
            if trouble == "commit fails":
                raise StoreUnavailable("disk I/O error")
            return result

        self.in_transaction = True
        try:
            result = self._inside.transact(troubled, time=time, write=write)
        finally:
            self.in_transaction = False
        if trouble is not None:
            raise StoreUnavailable("disk I/O error")
        return result

    def empty(self) -> None:
        """For the next schedule."""
        self.trouble = None
        self.restore({})

    def create(self) -> None:
        """The tables are there."""

    def close(self) -> None:
        """It is kept for the next schedule; `end` closes it."""

    def end(self) -> None:
        """Close the file."""
        self._hand.close()
        self._inside.close()

    # --- for the world and the ghost

    @property
    def changes(self) -> int:
        """The same number says that nobody else has committed anything."""
        return int(self.read("PRAGMA data_version")[0][0])

    def read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What is on disk."""
        return self._hand.execute(query, values).fetchall()

    def write(self, statement: str, *values: object) -> None:
        """A hand on the store."""
        self._hand.execute(statement, values)

    def save(self) -> Saved:
        """A backup."""
        return {made.name: self.read(f"SELECT * FROM {made.name}") for made in _TABLES}

    def restore(self, saved: Saved) -> None:
        """The backup put back."""
        self.write("BEGIN IMMEDIATE")
        for made in reversed(_TABLES):
            self.write(f"DELETE FROM {made.name}")
        for name, rows in saved.items():
            for row in rows:
                self.write(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", *row)
        self.write("COMMIT")


Store = Memory | OnDisk
