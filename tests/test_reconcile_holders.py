"""Two nightly runs of one day: one works, the other one says so; a dead one is taken over, a stale one does nothing.

All in one process. Real ones: `test_reconcile_processes.py`; who dies where: `test_reconcile_kills.py`.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from sqlalchemy import event

import reconcile
from gateway_client import Client, ConfigurationError, Sandbox, StoreUnavailable
from gateway_client.charge import iso
from gateway_client.errors import RunHeld
from reconcile.store.runs import HOLD
from tests.kit import Killed
from tests.nightly import Night, codes
from tests.nightly_stage import LISTS, Interrupted, Stage, folder
from tests.reconcile_yard import who_holds

SECONDS_MAX = 20.0
TODAY, BEFORE = date(2026, 11, 21), date(2026, 11, 20)
HOST = socket.gethostname()
FOUND = {("outcome_recovered", "charged"), ("missing_locally", "imported"), ("missing_at_provider", "gone")}
FOUND |= {("outcome_recovered", "debit"), ("status_mismatch", "status")}


def prepare(night: Night) -> None:
    """A few disagreements of today, and one of the day before."""
    night.pay("debit", "pm_usBankAccount_success")
    night.clock.advance(hours=22)
    for name in ("gone", "status"):
        night.pay(name)
    night.sandbox.remove(night.row("gone")["provider_charge_id"])
    night.change("status", status="failed")
    night.doubt("charged")
    night.pay_behind_our_back("imported")
    night.clock.advance(minutes=20)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Stage]:
    with folder() as where, Stage(where, prepare) as made:
        yield made


@pytest.fixture
def stage(prepared: Stage) -> Stage:
    prepared.put_up()
    return prepared


def held(error: RunHeld, stage: Stage) -> None:
    """The message names the day, this process, since when it is at it, and until when it holds on at most."""
    began = stage.clock.now
    assert who_holds(str(error)) == (str(TODAY), "UTC", os.getpid(), HOST, iso(began), iso(began + HOLD))


def test_second_run(stage: Stage) -> None:
    """While one run is in the midst of a page, another one of that day says who is at it, and does nothing (F114)."""
    with stage.inside_a_page(TODAY) as rest:
        before, asked = stage.dump(), len(stage.sandbox.requests)
        with pytest.raises(RunHeld) as caught:
            stage.run(TODAY)
        held(caught.value, stage)
        assert (stage.dump(), stage.asked[asked:]) == (before, ["GET /v1/account"])
        result = rest()
    assert (result.complete, codes(result)) == (True, FOUND)
    assert stage.sql("SELECT count(*) FROM paycli_runs") == [(1,)]


@pytest.mark.parametrize(("day", "tz"), [(BEFORE, "UTC"), (TODAY, "Europe/Berlin")])
def test_another_window_meanwhile(stage: Stage, day: date, tz: str) -> None:
    """Another day, or the day of another zone, may be reconciled meanwhile; each finds what is its own (F114)."""
    with stage.inside_a_page(TODAY) as rest:
        other = stage.run(day, tz)
        result = rest()
    assert (other.complete, result.complete) == (True, True)
    assert codes(other) | codes(result) == FOUND
    assert stage.sql("SELECT count(*) FROM paycli_findings") == [(len(FOUND),)]  # one each, whoever found it


# Dead or alive ------------------------------------------------------------------------------------------------------


def die_in_a_page(stage: Stage, page: int = 2) -> None:
    def die(request: httpx.Request) -> None:
        raise Killed

    stage.on_page(die, page=page)
    with pytest.raises(Killed):
        stage.run(TODAY)
    stage.hooks.clear()


def began(pid: int) -> str:
    """When a process began, as its kernel tells."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]


@contextmanager
def process(state: str) -> Iterator[str]:
    """The holder that another process is: `alive`, `gone`, or dead and not yet waited for by its parent (`zombie`)."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this kernel does not tell when a process began")
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        name = f"{HOST}:{other.pid}:{began(other.pid)}:1"
        try:
            if state != "alive":
                other.kill()
                os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
            if state == "gone":
                other.wait(SECONDS_MAX)
            yield name
        finally:
            other.kill()


def test_this_process_is_at_it_no_more(stage: Stage) -> None:
    """A run that ended without a word in a process that lives on is taken over at once, with its window (F114)."""
    die_in_a_page(stage)
    stage.clock.advance(minutes=1)
    result = stage.run(TODAY)
    assert (result.complete, codes(result)) == (True, FOUND)
    assert result.window_end == result.started_at.replace(microsecond=0) + timedelta(seconds=1)


@pytest.mark.parametrize("state", ["gone", "zombie"])
def test_dead_process(stage: Stage, state: str) -> None:
    """The run of a dead process of this host is taken over at once (F114)."""
    die_in_a_page(stage)
    with process(state) as name:
        stage.sql("UPDATE paycli_runs SET holder = ?", [name])
        assert codes(stage.run(TODAY)) == FOUND


def test_number_of_another_process(stage: Stage) -> None:
    """A process that has the number of the dead one, but began at another time, is not taken for it (F114)."""
    die_in_a_page(stage)
    with process("alive") as name:
        pid = name.split(":")[1]
        stage.sql("UPDATE paycli_runs SET holder = ?", [f"{HOST}:{pid}:1:1"])
        assert codes(stage.run(TODAY)) == FOUND


@pytest.mark.parametrize("name", ["elsewhere:1:1:1", "fe80::1:1:1:1", "{alive}"])
def test_nobody_knows(stage: Stage, name: str) -> None:
    """A holder of another host, or one that lives, is waited for until its hold expires, and no longer (F114)."""
    die_in_a_page(stage)
    with process("alive") as alive:
        name = name.format(alive=alive)
        stage.sql("UPDATE paycli_runs SET holder = ?", [name])
        stage.clock.advance(seconds=HOLD.total_seconds() - 1)
        before = stage.dump()
        with pytest.raises(RunHeld) as caught:
            stage.run(TODAY)
        host, number, *_ = name.rsplit(":", 3)
        assert who_holds(str(caught.value))[2:4] == (int(number), host)
        assert stage.dump() == before
        stage.clock.advance(seconds=1)
        result = stage.run(TODAY)
    assert (result.complete, codes(result)) == (True, FOUND)
    assert stage.sql("SELECT count(*) FROM paycli_runs") == [(1,)]


def test_kernel_that_does_not_tell(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lives, but whose beginning may not be read, is not dead for sure: it is waited for (F114)."""
    die_in_a_page(stage)
    with process("alive") as name:
        stage.sql("UPDATE paycli_runs SET holder = ?", [name])
        hidden, really = f"/proc/{name.split(':')[1]}/stat", Path.read_text

        def read_text(path: Path, *arguments: Any, **options: Any) -> str:
            if str(path) == hidden:  # another user's, where each sees only their own
                raise FileNotFoundError(path)
            return really(path, *arguments, **options)

        monkeypatch.setattr(Path, "read_text", read_text)
        with pytest.raises(RunHeld):
            stage.run(TODAY)


def test_hold_is_renewed(stage: Stage) -> None:
    """A long run holds on: each of its transactions renews the hold, for those on other hosts, too (F114)."""
    refused = []

    def look(request: httpx.Request) -> None:
        stage.clock.advance(seconds=HOLD.total_seconds() - 1)
        with pytest.raises(RunHeld) as caught:
            reconcile.run(cast("Client", stage.open_client()), TODAY)
        refused.append(caught.value)

    for page in (1, 2):
        stage.on_page(look, page=page)
    assert codes(stage.run(TODAY)) == FOUND
    assert len(refused) == 2


# Stopped, and taken over --------------------------------------------------------------------------------------------


def test_stopped_and_taken_over(stage: Stage) -> None:
    """One that was stopped past its hold, and taken over, writes nothing more, wherever it was stopped (F11, F114)."""
    ends: list[str] = []
    point, points = 0, 1
    while point < points:
        stage.put_up()
        left: list[object] = []

        def meanwhile(left: list[object] = left) -> None:
            stage.clock.advance(seconds=HOLD.total_seconds() + 1)
            assert stage.run(TODAY).complete
            left.append(stage.dump())

        client = cast("Interrupted", stage.open_client(sync=Interrupted))
        client.stops_at, client.meanwhile = point, meanwhile
        try:
            reconcile.run(client, TODAY)
            ends.append("done")
        except RunHeld as error:
            ends.append("held")
            said = str(error)
            assert "another process has taken this run over" in said, said
            assert (point, [stage.dump()]) == (point, left)
        point, points = point + 1, max(points, client.performed)
    # Before it held the run it makes one of its own; after its last transaction there is only the result to read.
    before, held_times = ends.index("held"), ends.count("held")
    assert ends == ["done"] * before + ["held"] * held_times + ["done"]
    assert (before, held_times > 20) == (3, True)


def test_stopped_and_not_taken_over(stage: Stage) -> None:
    """One that was stopped past its hold, while nobody came, goes on as if nothing had happened."""
    stage.on_page(lambda request: stage.clock.advance(hours=1), page=2)
    assert codes(stage.run(TODAY)) == FOUND


# Exceptions ---------------------------------------------------------------------------------------------------------


def revoked(stage: Stage) -> None:
    stage.sandbox.revoke(Sandbox.api_key)


def locked(stage: Stage) -> None:
    """Another connection holds the write lock, until somebody has been refused."""
    other = sqlite3.connect(stage.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    event.listen(stage._engine, "handle_error", lambda context: other.close(), once=True)


def unreadable(stage: Stage) -> None:
    raise ValueError("of a caller's own")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [(revoked, ConfigurationError), (locked, StoreUnavailable), (unreadable, ValueError)],
)
def test_exception_lets_go(stage: Stage, problem: Callable[[Stage], None], expected: type[Exception]) -> None:
    """A run that ends in an exception lets go of its hold: anybody, anywhere, goes on at once (F114)."""
    seen: list[int] = []

    def listener(items: int) -> None:
        seen.append(items)
        if len(seen) == 1:
            problem(stage)

    with pytest.raises(expected):
        reconcile.run(cast("Client", stage.open_client()), TODAY, on_progress=listener)
    assert stage.sql("SELECT lists_read, ended_at FROM paycli_runs") == [(1, None)]
    stage.sql("UPDATE paycli_runs SET holder = 'elsewhere:1:1:1'")
    stage.sandbox._model.revoked.clear()
    asked = len(stage.asked)
    assert codes(stage.run(TODAY)) == FOUND
    assert [one for one in stage.asked[asked:] if one.split()[1] in LISTS][:1] == [f"GET {LISTS[1]}"]
    assert stage.sql("SELECT count(*) FROM paycli_runs") == [(1,)]


def test_locked_for_longer(stage: Stage) -> None:
    """When even letting go fails, this host knows that nobody is at it any more (F114)."""
    with closing(sqlite3.connect(stage.path, isolation_level=None)) as other:
        stage.on_page(lambda request: other.execute("BEGIN IMMEDIATE"), page=2)
        with pytest.raises(StoreUnavailable):
            stage.run(TODAY)
    assert codes(stage.run(TODAY)) == FOUND


def test_provider_down(stage: Stage) -> None:
    """A provider that stops answering leaves an incomplete run, which anybody goes on with at once; nothing untrue."""

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    stage.on_page(lambda request: stage.hooks.append(down), page=2)  # from that very request on
    result = stage.run(TODAY)
    assert (result.complete, codes(result) - FOUND) == (False, set())
    stage.hooks.clear()
    stage.sql("UPDATE paycli_runs SET holder = 'elsewhere:1:1:1'")
    again = stage.run(TODAY)
    assert (again.complete, again.run_id, codes(again)) == (True, result.run_id, FOUND)


# A dry run ----------------------------------------------------------------------------------------------------------


def test_dry_run_beside_a_run(stage: Stage) -> None:
    """A dry run does not wait for the run that is being made, changes nothing of it, and finds the same (F114)."""
    with stage.inside_a_page(TODAY) as rest:
        before = stage.dump()
        dry = stage.run(TODAY, dry_run=True)
        assert (dry.complete, dry.dry_run, codes(dry), stage.dump()) == (True, True, FOUND, before)
        result = rest()
    assert (codes(result), result.repaired) == (FOUND, 2)


def test_run_beside_a_dry_run(stage: Stage) -> None:
    """A run does not wait for a dry run, and is not disturbed when that one ends (F114)."""
    with stage.inside_a_page(TODAY, dry_run=True) as rest:
        result = stage.run(TODAY)
        assert (result.complete, codes(result), result.repaired) == (True, FOUND, 2)
        after = stage.dump()
        dry = rest()
    assert (dry.complete, codes(dry), stage.dump()) == (True, FOUND, after)
