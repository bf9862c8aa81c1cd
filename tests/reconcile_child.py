"""The processes of `test_reconcile_kills.py` and `test_reconcile_leases.py`: a warm parent and its forks.

Run as `python -m tests.reconcile_child URL DATABASE`; it reads one JSON object a line (a `Job`), says at once which
process works on it, and what became of that process when it has ended. The parent has used its client before, so that
every child inherits a used one. `Parent` is the other end, for the tests.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

from sqlalchemy import create_engine, event

import reconcile
from gateway_client import Client, Stripe
from gateway_client.errors import ChargeOnceError

ROOT = Path(__file__).resolve().parent.parent
ANSWER_S_MAX = 30.0


class Job(TypedDict, total=False):
    """One run of a day."""

    day: str
    dies_in_commit: int | None  # the first is 1: the process ends itself there
    child_day: str | None  # the process is forked once more in the midst of its first page, to run that day
    windows: int  # parts of a list that are read at once; 1, so that each request has its place


class Report(TypedDict):
    """What became of a process: the signal that ended it, or 0; what its run came to, and that of its own child."""

    signal: int
    said: dict[str, Any] | None
    child: dict[str, Any] | None


def work(client: Client, job: Job, on_page: Callable[[int], None] = lambda items: None) -> dict[str, Any]:
    """A run, or the name of what stopped it."""
    day, windows = date.fromisoformat(job["day"]), job.get("windows", 1)
    try:
        result = reconcile.run(client, day, rate=10_000, windows=windows, on_progress=on_page)
    except ChargeOnceError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return result.as_json()


def forked(do: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """A child's process id, and the end of a pipe on which it says what it did."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.write(writing, json.dumps(do()).encode())
        except BaseException as problem:
            os.write(writing, json.dumps({"error": type(problem).__name__, "message": str(problem)}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading


def ended(pid: int, reading: int) -> tuple[int, dict[str, Any] | None]:
    """The signal that ended a child, or 0, and what it said; a child that takes too long is ended."""
    said = b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], ANSWER_S_MAX)[0]:
            part = pipe.read(65536)
            if not part:
                break
            said += part
        else:
            os.kill(pid, signal.SIGKILL)  # ours, and not yet waited for: its id belongs to nobody else
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, json.loads(said) if said else None


def run(client: Client, engine: Any, job: Job) -> dict[str, Any]:
    """What a child does; its own child is told of in its report."""
    told: dict[str, Any] = {}
    client._database._identity = None  # the file was put up anew since the warm parent opened it, which is refused else
    commits = [0]
    dies_in, child_day = job.get("dies_in_commit"), job.get("child_day")

    def committing(connection: object) -> None:
        commits[0] += 1
        if commits[0] == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # it never comes to this

    def on_page(items: int) -> None:
        if child_day is not None and "child" not in told:
            told["child"] = ended(*forked(lambda: work(client, {**job, "day": child_day})))[1]

    event.listen(engine, "commit", committing)
    said = work(client, job, on_page)
    return {"said": said, "child": told.get("child")}


def main() -> None:
    url, database = sys.argv[1:]
    engine = create_engine(database)
    with Client(Stripe("sk_test_sandbox", api_base=url), database=engine, timeout_s=10.0) as client:
        client.find("nobody")  # used before any fork
        for line in sys.stdin:
            job: Job = json.loads(line)
            gate_reading, gate_writing = os.pipe()

            def child(job: Job = job, gate: tuple[int, int] = (gate_reading, gate_writing)) -> dict[str, Any]:
                os.close(gate[1])
                os.read(gate[0], 1)  # until its number is told
                return run(client, engine, job)

            pid, reading = forked(child)
            os.close(gate_reading)
            print(json.dumps({"pid": pid}), flush=True)
            os.close(gate_writing)
            number, told = ended(pid, reading)
            print(json.dumps({"signal": number, "said": None, "child": None, **(told or {})}), flush=True)


class Parent:
    """The tests' end of a warm parent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, job: Job) -> int:
        """A process is at it: its number."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._line()["pid"])

    def end(self) -> Report:
        """What became of it."""
        report: Any = self._line()
        return Report(signal=report["signal"], said=report["said"], child=report["child"])

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], 2 * ANSWER_S_MAX)[0], "the parent of the children hangs"
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line


@contextmanager
def parent(url: str, database: str) -> Iterator[Parent]:
    """A warm parent of processes that reconcile a store with the provider at an address."""
    command = [sys.executable, "-m", "tests.reconcile_child", url, database]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Parent(process)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
