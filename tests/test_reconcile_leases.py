"""Two nightly runs of one day: one works, the other one says so; a dead one is taken over when its lease is
over, a stale one does nothing.

All in one process. Real ones: `test_reconcile_processes.py`; who dies where: `test_reconcile_kills.py`.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from typing import cast

import httpx
import pytest
from sqlalchemy import event

import reconcile
from gateway_client import Client, ConfigurationError, Sandbox, StoreUnavailable
from gateway_client.charge import iso
from gateway_client.errors import RunHeld
from tests.kit import Killed
from tests.nightly import Night, codes
from tests.nightly_stage import LISTS, Interrupted, Stage, folder
from tests.reconcile_yard import who_works

TODAY, BEFORE = date(2026, 11, 21), date(2026, 11, 20)
HOST = socket.gethostname()
LEASE_S = 60.0  # 30 s, and 30 s of the client's `timeout_s`
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
    assert who_works(str(error)) == (
        str(TODAY),
        "UTC",
        HOST,
        os.getpid(),
        iso(began),
        iso(began + timedelta(seconds=LEASE_S)),
    )


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


def test_dead_process_is_waited_for_no_longer_than_its_lease(stage: Stage) -> None:
    """D5: the run of a killed process is refused, with the end of its lease, until that; then it is taken over."""
    die_in_a_page(stage)
    stage.clock.advance(seconds=LEASE_S - 0.25)
    before = stage.dump()
    with pytest.raises(RunHeld) as caught:
        stage.run(TODAY)
    assert who_works(str(caught.value))[2:4] == (HOST, os.getpid())
    assert "taken over in 1 s: run it again then" in str(caught.value)
    assert stage.dump() == before
    stage.clock.advance(seconds=0.25)
    result = stage.run(TODAY)
    assert (result.complete, codes(result)) == (True, FOUND)
    assert stage.sql("SELECT count(*) FROM paycli_runs") == [(1,)]
    assert result.window_end == result.started_at.replace(microsecond=0) + timedelta(seconds=1)


@pytest.mark.parametrize(("ahead_s", "refused"), [(7200, True), (7201, False)])
def test_dead_process_whose_clock_was_ahead_is_not_waited_for(stage: Stage, ahead_s: int, refused: bool) -> None:
    """L6: a lease that ends later than any could is of a clock that was ahead: the run is taken over at once."""
    die_in_a_page(stage)
    stage.sql(
        "UPDATE paycli_runs SET leased_until = ?",
        [f"{stage.clock.now + timedelta(seconds=ahead_s):%Y-%m-%d %H:%M:%S.%f}"],
    )
    if refused:
        with pytest.raises(RunHeld):
            stage.run(TODAY)
    else:
        assert stage.run(TODAY).complete


@pytest.mark.parametrize("name", [f"{HOST}:1:0:1", f"{HOST}:{2**22 - 1}:1:1", "elsewhere:1:1:1", "no name at all"])
def test_no_guess_about_processes(stage: Stage, name: str) -> None:
    """D5: whatever a live lease is named, also as a process that is not to be found on this host, it is kept."""
    die_in_a_page(stage)
    stage.sql("UPDATE paycli_runs SET leased_by = ?", [name])
    before = stage.dump()
    with pytest.raises(RunHeld) as caught:
        stage.run(TODAY)
    assert f"is being reconciled by {name}, since" in str(caught.value)
    assert stage.dump() == before


def test_lease_is_renewed(stage: Stage) -> None:
    """D5: each transaction of a run renews its lease, for others on this host and elsewhere."""
    refused = []

    def look(request: httpx.Request) -> None:
        stage.clock.advance(seconds=LEASE_S - 1)
        with pytest.raises(RunHeld) as caught:
            reconcile.run(cast("Client", stage.open_client()), TODAY)
        refused.append(caught.value)

    for page in (1, 2):
        stage.on_page(look, page=page)
    assert codes(stage.run(TODAY)) == FOUND
    assert len(refused) == 2


def test_lease_outlasts_a_question_that_is_asked_again_and_again(stage: Stage) -> None:
    """D5: six tries of a page, each 29 s long, are longer than the lease; it is renewed between them."""
    refused: list[str] = []

    def slow(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in LISTS:
            return None
        if len(refused) == 5:
            stage.hooks.remove(slow)
            return None
        stage.clock.advance(seconds=29)
        with pytest.raises(RunHeld):
            reconcile.run(cast("Client", stage.open_client()), TODAY)
        refused.append(request.url.path)
        return httpx.Response(503, headers={"Retry-After": "30"})

    def begin(request: httpx.Request) -> None:
        stage.hooks.append(slow)

    stage.on_page(begin, page=2)
    assert codes(stage.run(TODAY)) == FOUND
    assert len(refused) == 5


# Stopped, and taken over --------------------------------------------------------------------------------------------


def test_stopped_and_taken_over(stage: Stage) -> None:
    """One that was stopped past its lease, and taken over, writes nothing more, wherever it was stopped (F11, F114)."""
    ends: list[str] = []
    point, points = 0, 1
    while point < points:
        stage.put_up()
        left: list[object] = []

        def meanwhile(left: list[object] = left) -> None:
            stage.clock.advance(seconds=LEASE_S + 1)
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
    # Before it held the run it asks and makes one of its own; after its last transaction only the result is read.
    before, held_times = ends.index("held"), ends.count("held")
    assert ends == ["done"] * before + ["held"] * held_times + ["done"]
    assert (before, held_times > 20) == (4, True)


def test_stopped_and_not_taken_over(stage: Stage) -> None:
    """One that was stopped past its lease, while nobody came, goes on as if nothing had happened."""
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
    """A run that ends in an exception gives its lease back: anybody, anywhere, goes on at once (F114)."""
    seen: list[int] = []

    def listener(items: int) -> None:
        seen.append(items)
        if len(seen) == 1:
            problem(stage)

    with pytest.raises(expected):
        reconcile.run(cast("Client", stage.open_client()), TODAY, on_progress=listener)
    assert stage.sql("SELECT done FROM paycli_run_parts ORDER BY list_no") == [(True,), (False,)]
    assert stage.sql("SELECT ended_at FROM paycli_runs") == [(None,)]
    stage.sql("UPDATE paycli_runs SET leased_by = 'elsewhere:1:1'")
    stage.sandbox._model.revoked.clear()
    asked = len(stage.asked)
    assert codes(stage.run(TODAY)) == FOUND
    assert [one for one in stage.asked[asked:] if one.split()[1] in LISTS][:1] == [f"GET {LISTS[1]}"]
    assert stage.sql("SELECT count(*) FROM paycli_runs") == [(1,)]


def test_locked_for_longer(stage: Stage) -> None:
    """When even giving the lease back fails, it ends by itself (F114)."""
    with closing(sqlite3.connect(stage.path, isolation_level=None)) as other:
        stage.on_page(lambda request: other.execute("BEGIN IMMEDIATE"), page=2)
        with pytest.raises(StoreUnavailable):
            stage.run(TODAY)
    stage.clock.advance(seconds=LEASE_S)
    assert codes(stage.run(TODAY)) == FOUND


def test_provider_down(stage: Stage) -> None:
    """A provider that stops answering leaves an incomplete run, which anybody goes on with at once; nothing untrue."""

    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    stage.on_page(lambda request: stage.hooks.append(down), page=2)  # from that very request on
    result = stage.run(TODAY)
    assert (result.complete, codes(result) - FOUND) == (False, set())
    stage.hooks.clear()
    stage.sql("UPDATE paycli_runs SET leased_by = 'elsewhere:1:1'")
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
