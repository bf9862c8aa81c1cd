"""A provider on a port, a store in a file, a warm parent of processes, and strace on one of them.

What is disturbed, and what must then be true, is in `scenes.py`.
"""

from __future__ import annotations

import json
import os
import re
import select
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from sqlalchemy import NullPool, create_engine

from gateway_client import Client, Sandbox, Stripe
from gateway_client.sandbox.model import Exchange
from gateway_client.sandbox.server import SandboxServer
from gateway_client.sandbox.wire import Answer, Request
from tests.nightly_stage import Tables, folder, rows_of
from tests.syscalls.child import CHILD_S_MAX, Job, Report

ROOT = Path(__file__).resolve().parent.parent.parent
ANSWER_S_MAX = CHILD_S_MAX + 40.0
CALLS = tuple("openat pwrite64 write ftruncate fsync fdatasync unlink connect sendto recvfrom".split())
"""What opens or changes a file, or crosses the wire."""


class Injection(NamedTuple):
    """One fault: the so manieth call of that name, or from it on each, meets it."""

    call: str
    fault: str  # SIGKILL, or the name of an error
    number: int
    lasting: bool

    def __str__(self) -> str:
        return f"{self.call}:{self.kind}:{self.number}"

    @property
    def kind(self) -> str:
        return f"{self.fault}{'+' if self.lasting else ''}"

    def options(self) -> list[str]:
        how = "signal" if self.fault == "SIGKILL" else "error"
        when = f"{self.number}{'+' if self.lasting else ''}"
        # Without `trace=` of the same call strace injects nothing, and says nothing.
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:{how}={self.fault}:when={when}"]


class Ran(NamedTuple):
    """What became of a process, which calls it made, and whether it met the fault."""

    report: Report
    calls: Counter[str]
    met: bool


class Door:
    """The provider's door: looks into the store when a charge passes (S2), and may be given another provider."""

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        self.sandbox, self._path = sandbox, path
        self.wrong: list[str] = []

    def begin(self, request: Request) -> Exchange:
        if (request.method, request.path) == ("POST", "/v1/payment_intents"):
            problem = self._unwritten(request)
            self.wrong += [] if problem is None else [problem]
        return self.sandbox.begin(request)

    def finish(self, exchange: Exchange) -> Answer:
        return self.sandbox.finish(exchange)

    def _unwritten(self, request: Request) -> str | None:
        """Why this send may not pass: another process reads the store, so it sees what is committed."""
        query = (
            "SELECT body, first_sent_at, (SELECT count(*) FROM paycli_sends AS s WHERE s.ended_at IS NULL "
            "AND s.intent_id = c.intent_id AND s.attempt = c.attempt) FROM pending_charges AS c "
            "WHERE idempotency_key = ?"
        )
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)) as connection:
                row = connection.execute(query, (request.idempotency_key,)).fetchone()
        except sqlite3.Error as problem:
            return f"sent, and the store cannot be read: {problem}"
        if row is None:
            return "sent before its row was committed"
        if row[0].encode() != request.body:
            return "other bytes were sent than were written down"
        return "sent before the send was committed" if row[1] is None or not row[2] else None


class Yard:
    """What outlives the processes."""

    def __init__(self, where: Path, door: Door, server: SandboxServer, parent: subprocess.Popen[str]) -> None:
        self.where, self.door, self.url = where, door, server.url
        self.path = where / "store.db"
        self._server, self._parent = server, parent
        self._engine = create_engine(f"sqlite:///{self.path}")
        assert self._line() == "warm"

    @property
    def sandbox(self) -> Sandbox:
        return self.door.sandbox

    def put_up(self, sandbox: Sandbox, prepared: bytes | None) -> None:
        """Another provider and another store: none, or a copy."""
        self.drain()
        self.door.sandbox, self.door.wrong = sandbox, []
        for beside in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + beside).unlink(missing_ok=True)
        if prepared is not None:
            self.path.write_bytes(prepared)

    def run(self, does: str, what: str, injection: Injection | None = None) -> Ran:
        """A process does something under strace; without an injection all of its calls are counted."""
        self._say(json.dumps(Job(does=does, what=what, path=str(self.path))))
        trace = self.where / "trace"
        options = ["-e", f"trace={','.join(CALLS)}"] if injection is None else injection.options()
        command = ["strace", "-f", "-e", "signal=none", "-s", "0", "-o", str(trace), *options, "-p", str(self._line())]
        with subprocess.Popen(command, text=True, stderr=subprocess.PIPE) as strace:
            try:
                assert strace.stderr is not None
                attached = strace.stderr.readline()
                self._say("go")
                report: Report = self._line()
                assert " attached" in attached, f"strace could not attach: {attached}"
                strace.communicate(timeout=ANSWER_S_MAX)
            finally:
                strace.kill()
        lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
        calls = Counter(match[1] for line in lines if (match := re.match(r"(?:\d+ +)?(\w+)\(", line)))
        met = any("(INJECTED)" in line for line in lines) or report["signal"] != 0
        return Ran(report, calls, met)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A process that nobody disturbs, in effect; one engine for all of them, whose statements are compiled once."""
        gateway = Stripe(Sandbox.api_key, api_base=self.url)
        transport = httpx.HTTPTransport(verify=False)  # reading certificates takes longer than the rest
        with Client(gateway, database=self._engine, timeout_s=5.0, transport=transport) as client:
            yield client
        self._engine.dispose()

    def drain(self) -> None:
        """Wait until all that any process has sent has arrived."""
        deadline = time.monotonic() + 5
        while self._server._listener._connections and time.monotonic() < deadline:
            time.sleep(0.001)

    def rows(self) -> Tables:
        """All that is in the store."""
        with create_engine(f"sqlite:///{self.path}", poolclass=NullPool).connect() as connection:
            return rows_of(connection)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """A hand on the store."""
        with closing(sqlite3.connect(self.path, timeout=5, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    def _say(self, line: str) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write(line + "\n")
        self._parent.stdin.flush()

    def _line(self) -> Any:
        assert self._parent.stdout is not None
        assert select.select([self._parent.stdout], [], [], ANSWER_S_MAX)[0], "the parent of the processes hangs"
        return json.loads(self._parent.stdout.readline())


@contextmanager
def yard() -> Iterator[Yard]:
    """A yard of its own port, folder and processes."""
    with folder() as where:
        door = Door(Sandbox(), where / "store.db")
        with SandboxServer(door) as server:
            command = [sys.executable, "-m", "tests.syscalls.child", server.url]
            ours = {name: value for name, value in os.environ.items() if not name.startswith(("PAYCLI_", "STRIPE_"))}
            environment = {**ours, "PYTHONPATH": str(ROOT)}
            with subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as parent:
                try:
                    yield Yard(where, door, server, parent)
                finally:
                    parent.kill()
