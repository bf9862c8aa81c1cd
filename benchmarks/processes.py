"""Start the processes that are measured, wait for them within a bound, and read their results.

A process that fails is a result with its last words in `error`: it is shown with the figures, and ends no run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
READY_S_MAX = 60.0
Result = dict[str, Any]


class Child:
    """Hold one process that does a job of `child.py`; `before` is put in front of its command."""

    def __init__(self, job: Mapping[str, Any], before: Sequence[str] = ()) -> None:
        # Files, not pipes: nothing waits for a reader.
        self._said, self._erred = _file(), _file()
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "benchmarks.child"],
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=self._erred,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        assert self._process.stdin is not None
        self._in = self._process.stdin
        self._in.write(json.dumps(job) + "\n")
        self._in.flush()

    def is_ready(self) -> bool:
        """Return whether it has said that it is ready, or has ended."""
        return self._text().startswith("ready") or self._process.poll() is not None

    def begin(self) -> None:
        """Tell it to begin."""
        try:
            self._in.write("\n")
            self._in.flush()
        except OSError:  # it has ended; `result` says why
            return

    def result(self, seconds_max: float) -> Result:
        """Wait for its result; one that takes too long is killed, and that is the result."""
        try:
            status = self._process.wait(seconds_max)
            lines = self._text().splitlines()
            if status == 0 and lines:
                found: Result = json.loads(lines[-1])
                return found
            return {"error": f"ended with {status}: {self._last_words()}"}
        except subprocess.TimeoutExpired:
            return {"error": f"killed after {seconds_max:.0f} s"}
        finally:
            self.end()

    def end(self) -> None:
        """End it, wherever it is; calling it again does nothing."""
        self._process.kill()
        self._process.wait()
        for file in (self._said, self._erred, self._in):
            with suppress(OSError):  # what was not read of its input is of no use any more
                file.close()

    def _text(self) -> str:
        self._said.seek(0)
        return self._said.read()

    def _last_words(self) -> str:
        self._erred.seek(0)
        lines = [line for line in self._erred.read().splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it said nothing"


def _file() -> IO[str]:
    return tempfile.TemporaryFile("w+")


def run_child(job: Mapping[str, Any], seconds_max: float, before: Sequence[str] = ()) -> Result:
    """Do one job in a process of its own."""
    return Child(job, before).result(seconds_max)


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a measured process: this one's, with this tree first, and without its settings."""
    # Modules are compiled once and kept, as they are where programs are installed.
    others = ("PAYCLI_", "STRIPE_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH", ""))))
    return kept | {"PYTHONPATH": path} | more


def paycli() -> str:
    """Return the path of `paycli`, beside the Python that runs this."""
    beside = Path(sys.executable).with_name("paycli")
    return str(beside) if beside.exists() else shutil.which("paycli") or "paycli"


def cpu_of(command: Sequence[str], env: Mapping[str, str], allowed: Sequence[int] = (0,)) -> tuple[float, str | None]:
    """Run a command to its end: its user and system time in milliseconds, and what went wrong or None."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd=ROOT, env=dict(env)
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # or its destructor would wait for it once more
        said.seek(0)
        words = said.read().strip().splitlines()
    failed = None if process.returncode in allowed else f"exit {process.returncode}: {(words or [''])[-1][:120]}"
    return 1000 * (used.ru_utime + used.ru_stime), failed
