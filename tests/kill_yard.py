"""A real port, a real file and a warm parent of real processes, for the tests that end some of them."""

from __future__ import annotations

import json
import os
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway_client import Client, Sandbox, Stripe
from gateway_client.sandbox.server import SandboxServer
from tests.kill_child import Job, Report

ROOT = Path(__file__).resolve().parent.parent
ANSWER_S_MAX = 60.0


class Yard:
    """What outlives the processes: the provider on a port, the file, and the parent they are forked from."""

    def __init__(self, sandbox: Sandbox, server: SandboxServer, path: Path, parent: subprocess.Popen[str]) -> None:
        self.sandbox, self.url, self.path, self._parent = sandbox, server.url, path, parent
        self.database = f"sqlite:///{path}"

    def run(self, job: Job) -> Report:
        """One job of the parent, waited for."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(job) + "\n")
        self._parent.stdin.flush()
        assert select.select([self._parent.stdout], [], [], ANSWER_S_MAX)[0], "the parent of the children hangs"
        report: Report = json.loads(self._parent.stdout.readline())
        return report

    def client(self) -> Client:
        return Client(Stripe(self.sandbox.api_key, api_base=self.url), database=self.database, timeout_s=5.0)

    def states(self) -> dict[str, str]:
        """The state of every row."""
        with closing(sqlite3.connect(self.path, timeout=5)) as connection:
            return dict(connection.execute("SELECT intent_id, state FROM pending_charges").fetchall())

    def posts(self) -> int:
        return len([request for request in self.sandbox.requests if request.method == "POST"])

    def awaited(self, intent_id: str, charges: int) -> int:
        """How often the provider charged an intent, once a request that is on its way has had time to arrive."""
        deadline = time.monotonic() + 5
        while self.sandbox.succeeded()[intent_id] < charges and time.monotonic() < deadline:
            time.sleep(0.002)
        return self.sandbox.succeeded()[intent_id]

    def sound(self) -> str:
        """What SQLite says of the file."""
        with closing(sqlite3.connect(self.path, timeout=5)) as connection:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


@contextmanager
def yard(path: Path, sandbox: Sandbox) -> Iterator[Yard]:
    """A store with its tables, and everything around it."""
    with sandbox.serve() as server:
        command = [sys.executable, "-m", "tests.kill_child", server.url, f"sqlite:///{path}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as parent:
            try:
                made = Yard(sandbox, server, path, parent)
                with made.client() as client:
                    assert client.find("nobody") is None
                yield made
            finally:
                parent.kill()
