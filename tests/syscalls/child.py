"""The processes whose system calls fail: a warm parent, and the forks that each do one piece of work.

Run as `python -m tests.syscalls.child URL`; it reads one JSON object a line (a `Job`), forks, says which process waits,
and lets it go at the next line. The fork makes no system call of its own that could be counted: it waits in select(2)
and tells what became of it through shared memory. All of its imports are done, and waits are a hundredth as long.
"""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypedDict

import cli.main
from gateway_client import Client, Stripe
from gateway_client.clock import SystemClock
from gateway_client.errors import ChargeOnceError
from tests.kill_child import POLICY, order, patch

CHILD_S_MAX = 30.0
TIMEOUT_S = 1.0
TOLD_BYTES = 1 << 20
PR_SET_PTRACER, ANY_PROCESS = 0x59616D61, ctypes.c_ulong(-1)  # strace is no parent of ours
CARD = ("--amount", "1999", "--currency", "usd", "--payment-method", "pm_card_visa")


class Job(TypedDict):
    """One piece of work: what to do, of which intent or day, with which store."""

    does: str
    what: str
    path: str


class Report(TypedDict):
    """What became of a fork: the signal that ended it, or 0; what its work came to, its exit status and its output."""

    signal: int
    ended: str
    code: int
    out: str
    err: str


def charge(job: Job, url: str) -> tuple[str, int]:
    """One charge by the library, in a folder that may be empty: its state, or the name of the exception."""
    gateway, database = Stripe("sk_test_sandbox", api_base=url), f"sqlite:///{job['path']}"
    try:
        with Client(gateway, database=database, timeout_s=TIMEOUT_S, retry=POLICY) as client:
            return client.charge(order(job["what"])).state.value, 0
    except ChargeOnceError as error:
        return type(error).__name__, 0


def paycli(*arguments: str) -> tuple[str, int]:
    """One command: the exit status, and the name of the exception that it stands for, if any."""
    met: list[str] = []
    told = cli.main._told

    def noted(error: Exception) -> int:
        met.append(type(error).__name__)
        return told(error)

    sys.argv = ["paycli", *arguments, "--json"]
    patch_told(noted)
    try:
        cli.main.run()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        return ", ".join([*met, f"exit {code}"]), code
    finally:
        patch_told(told)
    return "came back", 0


def patch_told(told: Callable[[Exception], int]) -> None:
    setattr(cli.main, "_told", told)  # noqa: B010 - for the name of what it is told


WORKS: dict[str, Callable[[Job, str], tuple[str, int]]] = {
    "charge": charge,
    "paycli charge": lambda job, url: paycli("charge", job["what"], *CARD),
    "paycli reconcile": lambda job, url: paycli("reconcile", "--date", job["what"]),
}


def work(job: Job, url: str) -> dict[str, Any]:
    """Do it; whatever is no exception of ours is a traceback for somebody."""
    os.environ |= {
        "STRIPE_API_KEY": "sk_test_sandbox",
        "PAYCLI_STRIPE_API_BASE": url,
        "PAYCLI_DATABASE_URL": f"sqlite:///{job['path']}",
        "PAYCLI_TIMEOUT_S": str(TIMEOUT_S),
    }
    try:
        ended, code = WORKS[job["does"]](job, url)
    except BaseException:
        return {"ended": f"a traceback: {traceback.format_exc(limit=-4)}", "code": 1}
    return {"ended": ended, "code": code}


def fork(job: Job, url: str, told: mmap.mmap, gate: tuple[int, int]) -> int:
    """A process that waits at the gate; from here on nothing but its work can be met by a fault."""
    arrived = os.pipe()
    pid = os.fork()
    if pid:
        os.close(arrived[1])
        os.read(arrived[0], 1)
        os.close(arrived[0])
        return pid
    try:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY_PROCESS, 0, 0, 0)  # fails where it needs no permission
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{job['path']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        for end in (gate[1], *arrived):  # the last one lets the parent go on
            os.close(end)
        select.select([gate[0]], [], [])
        said = json.dumps(work(job, url)).encode()[: TOLD_BYTES - 1]
        told[: len(said) + 1] = said + b"\0"
    finally:
        os._exit(0)


def run(job: Job, url: str, go: Callable[[int], None]) -> Report:
    """One fork from its birth to its end; one that takes too long is ended."""
    told = mmap.mmap(-1, TOLD_BYTES)
    gate = os.pipe()
    pid = fork(job, url, told, gate)
    os.close(gate[0])
    go(pid)
    os.close(gate[1])
    hangs = not select.select([handle := os.pidfd_open(pid)], [], [], CHILD_S_MAX)[0]
    os.close(handle)
    if hangs:
        os.kill(pid, signal.SIGKILL)  # ours, and not yet waited for: its id belongs to nobody else
    _, status = os.waitpid(pid, 0)
    said = bytes(told[: told.find(b"\0")])
    out, err = (Path(f"{job['path']}.{name}").read_text(encoding="utf-8", errors="replace") for name in ("out", "err"))
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    silent = f"hung for {CHILD_S_MAX:g} s" if hangs else "killed" if number else "ended without a word"
    what: dict[str, Any] = json.loads(said) if said else {"ended": silent, "code": 0}
    return Report(signal=number, ended=what["ended"], code=what["code"], out=out, err=err)


def warm(url: str) -> None:
    """Do everything once, so that no fork has to import or compile anything."""
    patch(SystemClock, "sleep", lambda clock, seconds: time.sleep(seconds / 100))
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        for does, what in (("charge", "warm"), ("paycli charge", "warm"), ("paycli reconcile", "yesterday")):
            work(Job(does=does, what=what, path=f"{folder}/warm.db"), url)


def main() -> None:
    url = sys.argv[1]
    warm(url)
    print(json.dumps("warm"), flush=True)

    def go(pid: int) -> None:
        print(json.dumps(pid), flush=True)
        sys.stdin.readline()

    while line := sys.stdin.readline():
        print(json.dumps(run(json.loads(line), url, go)), flush=True)


if __name__ == "__main__":
    main()
