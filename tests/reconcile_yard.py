"""A real port, a real database and real processes, for the tests that disturb a nightly run in its midst.

The processes are forks of `reconcile_child.py`, or fresh ones of `paycli`.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine

from gateway_client import Sandbox
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.server import SandboxServer
from gateway_client.sandbox.wire import Answer, Request
from gateway_client.tables import Base
from tests.kill_yard import database_of
from tests.nightly_mass import Mass
from tests.nightly_stage import Tables, folder, plain, rows_of, timeless
from tests.reconcile_child import ROOT, Parent, Report, parent

CHARGES = 250
PAGES = 6  # of the two lists together
DAY = timedelta(days=1)
ANSWER_S_MAX = 20.0


class Door:
    """The provider's door: it may do something to whoever asks, before it answers."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._inside = sandbox
        self.asked: Callable[[Request], None] | None = None
        """Called with every request but the one for the account."""

    def begin(self, request: Request) -> Exchange:
        if self.asked is not None and request.path != "/v1/account":
            self.asked(request)
        return self._inside.begin(request)

    def finish(self, exchange: Exchange) -> Answer:
        return self._inside.finish(exchange)


class Yard:
    """A big prepared ledger on a port and in a store, a warm parent of processes, and what an undisturbed one does."""

    def __init__(self, database: str, door: Door, url: str, mass: Mass, forks: Parent) -> None:
        self.database, self._prepared = database, mass.path
        self._server = None
        if not database.startswith("sqlite"):
            self._server = create_engine(database, poolclass=NullPool, connect_args={"options": "-c timezone=UTC"})
        self.door, self.url, self.forks = door, url, forks
        self.day = mass.start.date()
        self.windows = 1  # so that each request has its place
        self.put_up()
        report = self.process()
        assert report["signal"] == 0
        assert report["said"] is not None
        self.undisturbed, self.expected = self.told(report["said"]), self.left()

    def put_up(self) -> None:
        """The store as it was prepared; the provider's ledger is never changed here."""
        self.door.asked = None
        if self._server is not None:
            copy(self._prepared, self._server)
            return
        path = Path(self.database.removeprefix("sqlite:///"))
        for beside in ("", "-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        shutil.copyfile(self._prepared, path)

    def process(self, *, request: int | None = None, commit: int | None = None) -> Report:
        """A fork reconciles: ended by the provider at its so manieth request, or by itself in its so manieth commit."""
        tell = self._ending(request)
        tell(self.forks.start({"day": str(self.day), "dies_in_commit": commit}))
        return self.forks.end()

    def paycli(self, *before: str, request: int | None = None) -> tuple[int, str, str]:
        """A fresh `paycli reconcile`, by the command `before`: its exit status (negative: a signal), what it said."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PAYCLI_", "STRIPE_"))},
            "STRIPE_API_KEY": Sandbox.api_key,
            "PAYCLI_STRIPE_API_BASE": self.url,
            "PAYCLI_DATABASE_URL": self.database,
            "PYTHONPATH": str(ROOT),
        }
        tell = self._ending(request)
        command = [*before, sys.executable, "-m", "cli.main", "reconcile", "--date", str(self.day), "--json"]
        command += ["--rate", "10000", "--windows", str(self.windows)]
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            tell(process.pid)
            try:
                out, err = process.communicate(timeout=ANSWER_S_MAX)
            finally:
                process.kill()
        return process.returncode, out, err

    def _ending(self, request: int | None) -> Callable[[int], None]:
        """Arm the door; the number of the process is known a moment after its first request may have come."""
        if request is None:
            return lambda pid: None
        pids: queue.Queue[int] = queue.Queue()
        left = [request]

        def asked(_: Request) -> None:
            if left[0] is not None:
                left[0] -= 1
            if left[0] == 0:
                os.kill(pids.get(timeout=ANSWER_S_MAX), signal.SIGKILL)  # it waits for our answer, so it lives

        self.door.asked = asked
        return pids.put

    def outlive_the_lease(self) -> None:
        """The database's clock cannot be moved: every lease ends earlier, as it were."""
        self.sql("UPDATE paycli_runs SET leased_until = started_at")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """A hand on the store."""
        with self._hand() as connection:
            found = connection.exec_driver_sql(statement)
            return [tuple(row) for row in found] if found.returns_rows else []

    def rows(self) -> Tables:
        """All that is in the store."""
        with self._hand() as connection:
            return rows_of(connection)

    @contextmanager
    def _hand(self) -> Iterator[Connection]:
        with (self._server or create_engine(self.database, poolclass=NullPool)).begin() as connection:
            yield connection

    def left(self) -> Tables:
        """What the run of our day has left, when there is one."""
        tables = self.rows()
        assert self._server is not None or self.sql("PRAGMA integrity_check") == [("ok",)]
        (run,) = tables["paycli_runs"]
        assert (run["complete"], str(run["window_end"])[:19]) == (1, f"{self.day + DAY} 00:00:00")
        return timeless(tables, run["run_id"])

    @staticmethod
    def told(result: dict[str, Any]) -> dict[str, Any]:
        """A result without what differs between any two runs."""
        return plain({**result, "findings": [plain(one) for one in result["findings"]]})


def copy(prepared: Path, server: Engine) -> None:
    """Every row of a file, into a database with our tables."""
    with create_engine(f"sqlite:///{prepared}", poolclass=NullPool).connect() as source, server.begin() as target:
        for table in reversed(Base.metadata.sorted_tables):
            target.execute(table.delete())
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in source.execute(table.select()).mappings()]
            if rows:
                target.execute(table.insert(), rows)


def who_works(said: str) -> tuple[str, str, str, int, str, str]:
    """What one is told who finds a run leased: day, zone, host, process, since when, and until when at most."""
    match = re.fullmatch(
        r"(\S+) \((\S+)\) is being reconciled by (\S+):(\d+):[0-9a-f]{16}, since (\S+Z); its lease is until (\S+Z)\. "
        r"Nothing was done here\. Wait for it; if it has died, this is taken over in \d+ s: run it again then\.",
        said,
    )
    assert match is not None, said
    return match[1], match[2], match[3], int(match[4]), match[5], match[6]


@contextmanager
def yard(kind: str) -> Iterator[Yard]:
    """A yard of yesterday, with one of each disagreement."""
    now = datetime.now(UTC)
    sandbox = Sandbox()
    door = Door(sandbox)
    with folder() as where, SandboxServer(door) as server:
        mass = Mass(sandbox, where / "prepared.db", datetime(now.year, now.month, now.day, tzinfo=UTC) - DAY)
        mass.agree(CHARGES)
        mass.disagree()
        database = database_of(kind, where)
        with parent(server.url, database) as forks:
            yield Yard(database, door, server.url, mass, forks)
