"""A prepared night, put up again as often as a test needs it: the same rows, the same provider, the same moment.

What is prepared, and what happens on the stage, is the tests' to say.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import Connection, create_engine

from gateway_client import Client, Sandbox
from gateway_client.db import Database
from gateway_client.flow.effects import Ask, DatabaseEffect, Effect, MeetProvider, Send
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.wire import Json, Request
from gateway_client.tables import Base
from gateway_client.transaction import Transaction
from reconcile import RunResult
from tests import postgres
from tests.kit import FakeClock
from tests.nightly import Night

T = TypeVar("T")
SECONDS_MAX = 20.0
LISTS = ("/v1/payment_intents", "/v1/charges")
Tables = dict[str, list[dict[str, Any]]]
NO_MATTER = frozenset(
    "run_id started_at ended_at leased_by leased_until at found_at closed_at quiet_from settled_at request_id "
    "first_sent_db_at".split()
)
"""Fields in which two runs that do the same may differ."""
TIMES = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?|run_\d{8}_[0-9a-f]{8}")
LOCK_TIMEOUT_S = 0.2  # nobody here holds a lock but to be refused
SHARED_MEMORY = Path("/dev/shm")  # no power is cut here, so commits need no disk


class Stage(Night):
    """A night on a file, or a database, of its own."""

    def __init__(self, folder: Path, prepare: Callable[[Night], None], kind: str = "sync") -> None:
        super().__init__(kind)
        self.path = folder / "store.db"
        if self._postgresql:
            self._engine = create_engine(postgres.fresh_database(), connect_args={"prepare_threshold": None})
        else:
            self._engine = create_engine(f"sqlite:///{self.path}", connect_args={"timeout": LOCK_TIMEOUT_S})
            Database(self._engine).create()
            self._engine.dispose()  # whoever makes the file waits longer
        self.url = postgres.shown(self._engine.url)
        self._arrived: list[tuple[float, Request, int]] = []
        really = self.sandbox.begin

        def begin(request: Request) -> Exchange:
            exchange = really(request)
            self._arrived.append((self.clock.true_time(), request, exchange.record))
            return exchange

        setattr(self.sandbox, "begin", begin)  # noqa: B010 - what arrives is played again
        prepare(self)
        recorded = self.sandbox.requests
        # What was executed, and what is still on its way.
        self._played = [
            (at, request, recorded[number].fault == "late")
            for at, request, number in self._arrived
            if recorded[number].executed or recorded[number].fault == "late"
        ]
        self._late_s = self.sandbox.late_s
        self._objects = {made["id"]: made for made in (*self.sandbox.payment_intents, *self.sandbox.charges)}
        self.began, self._rows = self.clock.now, self.tables()

    def put_up(self) -> None:
        """Both ledgers as they were prepared, at the time at which they were."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.hooks.clear()
        mark = "%s" if self._postgresql else "?"
        with self._engine.begin() as connection:
            for table in reversed(self._rows):
                connection.exec_driver_sql(f"DELETE FROM {table}")
            for table, rows in self._rows.items():
                if rows:
                    into = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({', '.join([mark] * len(rows[0]))})"
                    connection.exec_driver_sql(into, [tuple(row.values()) for row in rows])
        self.clock = FakeClock()
        self.sandbox = Sandbox(time=self.clock.true_time)
        self.sandbox.late_s = self._late_s
        for at, request, late in self._played:  # the ids are a function of what was asked
            if late:
                self.sandbox.fault("late")
            self.clock.advance(seconds=at - self.clock.true_time())
            self.sandbox.finish(self.sandbox.begin(request))
        self.clock.advance(seconds=self.began.timestamp() - self.clock.true_time())
        made: list[Json] = [*self.sandbox.payment_intents, *self.sandbox.charges]
        for played in made:
            if played["id"] not in self._objects:
                self.sandbox.remove(played["id"])
            elif played != self._objects[played["id"]]:
                changed = {name: value for name, value in self._objects[played["id"]].items() if name != "id"}
                self.sandbox.change(played["id"], **{name: changed[name] for name in changed if name != "object"})
        self.asked_before = len(self.sandbox.requests)

    def outlive_the_lease(self) -> None:
        """A server judges leases by its own clock, which cannot be moved: they ended long ago, as it were."""
        self.sql("UPDATE paycli_runs SET leased_until = ?", ["2000-01-01 00:00:00.000000"])

    def on_page(self, do: Callable[[httpx.Request], Any], *, page: int = 1) -> None:
        """Do something in the midst of the so manieth request for a page of a list, once."""
        seen = [0]

        def hook(request: httpx.Request) -> None:
            if request.url.path in LISTS:
                seen[0] += 1
                if seen[0] == page:
                    do(request)

        self.hooks.append(hook)

    @contextmanager
    def inside_a_page(self, day: date, *, dry_run: bool = False) -> Iterator[Callable[[], RunResult]]:
        """A run in a thread of its own stands in the midst of a page; what is yielded lets it go on, to its result."""
        inside, go_on = threading.Event(), threading.Event()

        def wait(request: httpx.Request) -> None:
            inside.set()
            assert go_on.wait(SECONDS_MAX)

        self.on_page(wait)
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self.run, day, dry_run=dry_run)

            def rest() -> RunResult:
                go_on.set()
                return future.result(SECONDS_MAX)

            try:
                assert inside.wait(SECONDS_MAX)
                yield rest
            finally:
                go_on.set()

    def tables(self) -> Tables:
        """Every row of every table."""
        with self._engine.connect() as connection:
            return rows_of(connection)


class Interrupted(Client):
    """Does something else before one of its effects that others can see, as a slower process would."""

    performed = 0
    stops_at: int | None = None
    meanwhile: Callable[[], object] | None = None

    def perform(self, effect: Effect[T]) -> T:
        if isinstance(effect, Ask | Send | MeetProvider | DatabaseEffect):
            self._count()
        return super().perform(effect)

    def transact(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        self._count()
        return super().transact(work, write=write)

    def _count(self) -> None:
        if self.performed == self.stops_at and self.meanwhile is not None:
            self.meanwhile()
        self.performed += 1


def rows_of(connection: Connection) -> Tables:
    """Every row of every table, parents first, each in the order of its keys."""
    found: Tables = {}
    for table in Base.metadata.sorted_tables:
        names = table.columns.keys()
        chosen, keys = (", ".join(f'"{name}"' for name in some) for some in (names, table.primary_key.columns.keys()))
        rows = connection.exec_driver_sql(f"SELECT {chosen} FROM {table.name} ORDER BY {keys}").all()
        found[table.name] = [dict(zip(names, row, strict=True)) for row in rows]
    return found


def timeless(tables: Tables, run_id: str) -> Tables:
    """What a run leaves, without times, the ids of runs, and any run but this one."""
    return {name: [plain(row) for row in rows if row.get("run_id", run_id) == run_id] for name, rows in tables.items()}


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    """A row, or an object of a result, without what differs between two runs that do the same."""
    return {
        name: TIMES.sub("…", str(value)) if isinstance(value, str | datetime) else value
        for name, value in fields.items()
        if name not in NO_MATTER
    }


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for a store that is written often."""
    fast = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="charge-once-", dir=fast) as name:
        yield Path(name)
