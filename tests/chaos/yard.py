"""The processes of a campaign: PostgreSQL that is killed and comes back, `paycli` in any number, callers."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol, Self

from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.chaos import caller
from tests.chaos.judge import Told
from tests.kills.actor import API_KEY
from tests.kills.forks import ROOT, environment
from tests.postgres import Server, folder_of_nobody

PAYCLI = Path(sys.executable).with_name("paycli")  # the installed command
END_S_MAX = 60.0
NOT_YET = -signal.SIGTERM  # it was told to end before it had begun to listen to that
APPLICATION = "chaos"  # the sessions of whoever is under test
SLOW_COMMITS = ("commit_delay=10000", "commit_siblings=0")  # 10 ms, as on a disk: so that many die in the midst of one
READY = "database system is ready to accept connections"
NOTICES_S_MAX = 5.0
TERMINATE = "SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity WHERE application_name = :name"
ALL = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
SERVES_US = (  # who is at work first
    "SELECT pid FROM pg_stat_activity WHERE application_name = :name ORDER BY state = 'idle', state_change DESC"
)

Settings = dict[str, str]


def settings(provider: str, database: str) -> Settings:
    """The environment of every `paycli`."""
    variables = {"STRIPE_API_KEY": API_KEY, "PAYCLI_STRIPE_API_BASE": provider, "PAYCLI_DATABASE_URL": database}
    return environment(**variables, PAYCLI_TIMEOUT_S=f"{caller.TIMEOUT_S:g}")


def installed(log: Path, words: tuple[str, ...], given: Settings) -> subprocess.Popen[bytes]:
    """A process of the installed command."""
    with log.open("ab") as out, log.with_suffix(".err").open("ab") as err:
        return subprocess.Popen([PAYCLI, *words], cwd=ROOT, env=given, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


class Process(Protocol):
    """What is asked of a process, whoever its parent is."""

    pid: int

    def poll(self) -> int | None: ...


class Child:
    """A process that the warm parent has forked."""

    def __init__(self, parent: Parent, pid: int) -> None:
        self._parent, self.pid = parent, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._parent.ask("ended", self.pid)
        return self._code


class Paycli:
    """One process of `paycli`, and what it says."""

    def __init__(self, process: Process, log: Path, words: tuple[str, ...]) -> None:
        self.process, self.words, self._log = process, words, log
        self.stopped_until: float | None = None

    def signal(self, number: signal.Signals) -> None:
        """Unless it has ended: until that is seen here, its id belongs to nobody else."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def stop(self, until: float) -> None:
        self.signal(signal.SIGSTOP)
        self.stopped_until = until

    def wake(self) -> None:
        self.signal(signal.SIGCONT)
        self.stopped_until = None

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.ended()

    def ended(self, seconds_max: float = END_S_MAX) -> int | None:
        """Its exit code, once it has come to its end; None: it has not, in all that time."""
        until(lambda: self.process.poll() is not None, seconds_max)
        return self.process.poll()

    @property
    def works(self) -> bool:
        """It has said something."""
        return self._log.stat().st_size > 0

    @property
    def last_words(self) -> str:
        """What it said to a person, the end of it."""
        return self._log.with_suffix(".err").read_text(encoding="utf-8", errors="replace")[-2000:]

    @property
    def complaint(self) -> str | None:
        """What it should not have said: with --json there is nothing for a person but an error, in one sentence."""
        lines = [line for line in self.last_words.splitlines() if not line.startswith("error: ")]
        return "\n".join(lines) if lines and "--json" in self.words else None

    def told(self) -> list[Told]:
        """The charges that it told of."""
        lines = self._log.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last end was broken off
        objects = [json.loads(line) for line in lines] if "--json" in self.words else []
        names = ("intent_id", "attempt", "state", "provider_charge_id")
        return [Told(*(one[name] for name in names)) for one in objects if "state" in one]


class Parent:
    """The campaign's end of the warm parent; what callers say is heard as they say it."""

    def __init__(self) -> None:
        self.told: set[Told] = set()
        self.said: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._begun: dict[int, str] = {}
        self._callers: dict[int, Child] = {}
        self._generations: Counter[int] = Counter()
        self._answers: queue.Queue[Any] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.parent"],
            cwd=ROOT,
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def paycli(self, log: Path, words: tuple[str, ...], given: Settings, ahead_s: float) -> Child:
        return Child(self, self.ask("paycli", str(log), str(log.with_suffix(".err")), words, given, ahead_s))

    def call(self, slot: int, provider: str, database: str, seed: int) -> None:
        """Begin a caller; it goes on with what the one before it was at."""
        interrupted = [self._begun[slot]] if slot in self._begun else []
        pid = self.ask("caller", slot, self._generations[slot], interrupted, provider, database, seed)
        self._callers[slot] = Child(self, pid)
        self._generations[slot] += 1

    def kill(self, slot: int) -> None:
        """Kill a caller."""
        child = self._callers.pop(slot)
        while child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.005)

    def ask(self, *order: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answers.get(timeout=END_S_MAX)

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            what, *words = json.loads(line)
            self.said[what] += 1
            if what == "begun":
                self._begun[words[0]] = words[1]
            elif what == "told":
                self.told.add(Told(*words))
            elif what == "raised":
                self.wrong.append(f"a caller has ended: {words}")
            elif what == "answer":
                self._answers.put(words[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for slot in list(self._callers):
            self.kill(slot)
        self._process.kill()
        self._process.communicate()
        self._listener.join(END_S_MAX)


class Postgres:
    """A server of its own, and the ways in which it goes down."""

    def __init__(self) -> None:
        self.server = Server(folder_of_nobody(), *SLOW_COMMITS)
        self.server.make()
        self.server.start()
        self.blows: Counter[str] = Counter()

    @property
    def url(self) -> URL:
        """Whose sessions can be told from ours."""
        return self.server.url.update_query_dict({"application_name": APPLICATION})

    @property
    def restarts(self) -> int:
        """How often it came back, as it says itself."""
        return (self.server.folder / "log").read_text(encoding="utf-8").count(READY) - 1

    def strike(self, how: str) -> None:
        """One blow; afterwards it answers again."""
        before = self.restarts
        pids = patiently(lambda: self._pids(SERVES_US if how == "backend" else ALL))
        if how == "terminate":
            patiently(lambda: self._pids(TERMINATE))
        elif how == "immediate":
            self.server.stop()
            self.server.start()
        elif how == "backend":
            _kill(pids[:1])
        else:
            self.server.stop(signal.SIGKILL)
            _kill(pids if how == "server" else [])  # else they finish what they are at
            self.server.start()
        self.blows[how] += 1
        if how == "backend" and pids:
            until(lambda: self.restarts > before, NOTICES_S_MAX)  # whom we have hit may just have left

    def _pids(self, found: str) -> list[int]:
        engine = create_engine(self.server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            return [int(pid) for (pid,) in connection.execute(text(found), {"name": APPLICATION})]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.stop()


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it has just left
            os.kill(pid, signal.SIGKILL)


def until(holds: Callable[[], bool], seconds_max: float = END_S_MAX) -> None:
    """Wait for it, in bounds; whether it holds then is for others to say."""
    deadline = time.monotonic() + seconds_max
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)


def patiently(act: Callable[[], Any]) -> Any:
    """Something of ours, done again while PostgreSQL comes back."""
    deadline = time.monotonic() + END_S_MAX
    while True:
        try:
            return act()
        except DBAPIError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
