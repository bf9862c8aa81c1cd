"""The nightly run on PostgreSQL: a commit that nobody confirmed, two machines, a machine that died.

What runs find: `test_reconcile_*.py`, on SQLite; the statements are the same.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import URL

import reconcile
from gateway_client import Client, State
from gateway_client.charge import iso
from gateway_client.errors import RunHeld
from tests.kit import ONE_SEND, ORDER, START, Killed
from tests.pg_proxy import How, Proxy
from tests.pg_shop import FIRST, Shop

SECONDS_MAX = 20.0
LEASE_S = 60.0
VARIES = ("run_id", "closed_by", "elapsed_ms", "first_sent_db_at")
TABLES = (
    "pending_charges",
    "paycli_sends",
    "paycli_events",
    "paycli_findings",
    "paycli_run_agreed",
    "paycli_run_items",
)


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop("sync") as made:
        disagree(made)
        yield made


def disagree(shop: Shop) -> None:
    """One intent is in doubt here and charged there, another one succeeded here and is gone there."""
    shop.sandbox.fault("lost_reply")
    assert shop.client(retry=ONE_SEND).charge(ORDER).state is State.UNKNOWN
    ((charge_id,),) = shop.sql(
        "SELECT provider_charge_id FROM pending_charges WHERE intent_id = :it", it=FIRST.intent_id
    )
    shop.sandbox.remove(charge_id)
    shop.clock.advance(minutes=20)


def run(shop: Shop, url: URL | None = None) -> reconcile.RunResult:
    client = shop.client(url)
    assert isinstance(client, Client)
    return reconcile.run(client, START.date())


def dump(shop: Shop) -> list[Any]:
    """What is on disk, whatever run wrote it."""
    return [
        [{name: value for name, value in row.items() if name not in VARIES} for row in shop.rows(table)]
        for table in TABLES
    ]


@pytest.mark.parametrize("how", [How.CUT_BEFORE, How.CUT_AFTER])
def test_each_commit_of_a_run_may_go_unconfirmed(how: How) -> None:
    """F85, F86: when every commit of a nightly run loses its answer once, it finds and repairs the same, once."""
    with Shop("sync") as calm:
        disagree(calm)
        found = run(calm)
        expected = dump(calm)
    assert (found.complete, found.repaired, found.flagged) == (True, 1, 1)
    with Shop("sync") as torn, Proxy(torn.url) as proxy:
        disagree(torn)
        proxy.at(how, every_other=True)
        again = run(torn, proxy.url)
        assert proxy.strikes > 10
        assert (again.complete, again.repaired, again.flagged, again.news) == (True, 1, 1, found.news)
        assert dump(torn) == expected


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread is a machine of its own, named as the thread is."""
    monkeypatch.setattr(socket, "gethostname", lambda: threading.current_thread().name)


class Machine:
    """A nightly run on a machine of its own."""

    def __init__(self, name: str, shop: Shop) -> None:
        self.result: reconcile.RunResult | None = None
        self.problem: BaseException | None = None
        self._shop = shop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = run(self._shop)
        except BaseException as error:
            self.problem = error

    def ended(self) -> Machine:
        self._thread.join(SECONDS_MAX)
        assert not self._thread.is_alive()
        return self


def outlive_the_lease(shop: Shop) -> None:
    """Let the database's clock pass the end of every lease, as it were: it is the database that moves back."""
    shop.sql(f"UPDATE paycli_runs SET leased_until = leased_until - interval '{LEASE_S + 1} s'")


class Pause:
    """Holds the first machine that reads a list until it is let go, or kills it there."""

    def __init__(self, shop: Shop) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.dies = False
        shop.before.append(self._wait)

    def _wait(self, request: httpx.Request) -> None:
        if request.url.path == "/v1/charges" and not self.inside.is_set():
            self.inside.set()
            assert self.go_on.wait(SECONDS_MAX)
            if self.dies:
                raise Killed


def test_one_of_two_machines_works(shop: Shop, machines: None) -> None:
    """F114: while a machine reconciles a day, another one says which and since when, and does nothing."""
    pause = Pause(shop)
    first = Machine("one.example", shop)
    assert pause.inside.wait(SECONDS_MAX)
    before = dump(shop)
    second = Machine("two.example", shop).ended()
    assert isinstance(second.problem, RunHeld)
    assert re.search(r"by one\.example:\d+:[0-9a-f]{16}, since 2026-11-20T12:20:00\.000Z", str(second.problem))
    assert dump(shop) == before
    pause.go_on.set()
    result = first.ended().result
    assert result is not None
    assert (result.complete, result.repaired, result.flagged) == (True, 1, 1)


def test_machines_that_begin_at_one_moment(shop: Shop, machines: None) -> None:
    """F94, F114: two machines that open the run of one day together make one run; one works, the other says so."""
    pause, barrier, first = Pause(shop), threading.Barrier(2), iter(range(2))

    def together(request: httpx.Request) -> None:
        if request.url.path == "/v1/account" and next(first, None) is not None:
            barrier.wait(SECONDS_MAX)

    shop.before.append(together)
    both = [Machine(f"{name}.example", shop) for name in ("one", "two")]
    assert pause.inside.wait(SECONDS_MAX)
    with ThreadPoolExecutor(2) as pool:
        refused = next(as_completed([pool.submit(one.ended) for one in both], SECONDS_MAX)).result()
        pause.go_on.set()
    assert isinstance(refused.problem, RunHeld)
    worked = next(one for one in both if one is not refused)
    assert (worked.problem, shop.sql("SELECT count(*), bool_and(complete) FROM paycli_runs")) == (None, [(1, True)])


def test_a_dead_machine_is_taken_over(shop: Shop, machines: None) -> None:
    """F09, F114: a run whose machine died is refused to others while it is leased, then taken over and ended."""
    pause = Pause(shop)
    pause.dies = True
    dead = Machine("one.example", shop)
    assert pause.inside.wait(SECONDS_MAX)
    pause.go_on.set()
    assert isinstance(dead.ended().problem, Killed)
    ((run_id, leased_until),) = shop.sql("SELECT run_id, leased_until FROM paycli_runs")
    early = Machine("two.example", shop).ended()
    assert f"its lease is until {iso(leased_until)}" in str(early.problem)
    outlive_the_lease(shop)
    result = Machine("two.example", shop).ended().result
    assert result is not None
    assert (result.run_id, result.complete, result.repaired, result.flagged) == (run_id, True, 1, 1)


def test_a_lease_is_judged_by_the_clock_of_the_database(shop: Shop, machines: None) -> None:
    """F95: a machine for which a lease is over long ago takes nothing over while the database says that it is not."""
    pause = Pause(shop)
    first = Machine("one.example", shop)
    assert pause.inside.wait(SECONDS_MAX)
    ahead = datetime.now(UTC) - shop.clock.now + timedelta(seconds=2 * LEASE_S)
    shop.clock.advance(seconds=max(ahead, timedelta(seconds=2 * LEASE_S)).total_seconds())
    assert isinstance(Machine("two.example", shop).ended().problem, RunHeld)
    pause.go_on.set()
    assert first.ended().result is not None


def test_a_machine_that_was_taken_over_does_nothing_more(shop: Shop, machines: None) -> None:
    """F11, F112: who stood still past its lease finds its run taken over, and writes nothing into it."""
    pause = Pause(shop)
    stale = Machine("one.example", shop)
    assert pause.inside.wait(SECONDS_MAX)
    outlive_the_lease(shop)
    result = Machine("two.example", shop).ended().result
    assert result is not None
    assert result.complete
    before = dump(shop)
    pause.go_on.set()
    assert isinstance(stale.ended().problem, RunHeld)
    assert dump(shop) == before
