"""A real port, a real database and a warm parent of real processes, for the tests that end some of them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from gateway_client import Client, Sandbox, Stripe
from gateway_client.sandbox.server import SandboxServer
from tests import postgres
from tests.kill_child import Job, Report

ROOT = Path(__file__).resolve().parent.parent
ANSWER_S_MAX = 60.0
DATABASES = ("sqlite", "postgresql")


def database_of(kind: str, folder: Path) -> str:
    """The URL of a new store of one of DATABASES."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'store.db'}"
    return postgres.shown(postgres.fresh_database())


class Yard:
    """What outlives the processes: the provider on a port, the database, and the parent they are forked from."""

    def __init__(self, sandbox: Sandbox, server: SandboxServer, database: str, parent: subprocess.Popen[str]) -> None:
        self.sandbox, self.url, self.database, self._parent = sandbox, server.url, database, parent
        self._engine = create_engine(database)

    def run(self, job: Job) -> Report:
        """One job of the parent, waited for."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(job) + "\n")
        self._parent.stdin.flush()
        report: Report = self.heard()
        return report

    def heard(self) -> Any:
        """What the parent says next."""
        assert self._parent.stdout is not None
        assert select.select([self._parent.stdout], [], [], ANSWER_S_MAX)[0], "the parent of the children hangs"
        return json.loads(self._parent.stdout.readline())

    def client(self) -> Client:
        return Client(Stripe(self.sandbox.api_key, api_base=self.url), database=self.database, timeout_s=5.0)

    def states(self) -> dict[str, str]:
        """The state of every row."""
        return dict(self._sql("SELECT intent_id, state FROM pending_charges"))

    def posts(self) -> int:
        return len([request for request in self.sandbox.requests if request.method == "POST"])

    def awaited(self, intent_id: str, charges: int) -> int:
        """How often the provider charged an intent, once a request that is on its way has had time to arrive."""
        deadline = time.monotonic() + 5
        while self.sandbox.succeeded()[intent_id] < charges and time.monotonic() < deadline:
            time.sleep(0.002)
        return self.sandbox.succeeded()[intent_id]

    def sound(self) -> str:
        """What SQLite says of its file; PostgreSQL repairs itself before it serves anybody."""
        return str(self._sql("PRAGMA integrity_check")[0][0]) if self.database.startswith("sqlite") else "ok"

    def _sql(self, statement: str) -> list[Any]:
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def yard(database: str, sandbox: Sandbox) -> Iterator[Yard]:
    """A store with its tables, and everything around it."""
    with sandbox.serve() as server:
        command = [sys.executable, "-m", "tests.kill_child", server.url, database]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as parent:
            made = Yard(sandbox, server, database, parent)
            try:
                assert made.heard() == "warm"
                yield made
            finally:
                made.close()
                parent.kill()
