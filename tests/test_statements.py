"""What a charge costs the store: two commits, of four statements and of three, on either database.

Counted are the statements of `store/`; what a transaction asks about its connection when it begins is `db.py`'s.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import event

from gateway_client import ProviderUnavailable, State
from tests.kit import DECLINED, KINDS, ONE_SEND, ORDER, World
from tests.kit_clients import AnyClient


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


@dataclass
class Counted:
    """The statements of each transaction that was committed, by the table that each names first."""

    transactions: list[list[str]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    @property
    def counts(self) -> list[int]:
        return [len(statements) for statements in self.transactions]


@contextmanager
def counted(world: World) -> Iterator[Counted]:
    """Count what is executed meanwhile, and committed."""
    counted = Counted()

    def executed(_: Any, __: Any, statement: str, *more: object) -> None:
        if of_the_store():
            counted.open.append(" ".join(statement.split()))

    def committed(_: Any) -> None:
        counted.transactions.append(counted.open.copy())
        counted.open.clear()

    def undone(_: Any) -> None:
        counted.open.clear()

    engines = (world._engine, world._async_engine.sync_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", executed)
        event.listen(engine, "commit", committed)
        event.listen(engine, "rollback", undone)
    try:
        yield counted
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", executed)
            event.remove(engine, "commit", committed)
            event.remove(engine, "rollback", undone)


CARRIERS = ("gateway_client.transaction", "gateway_client.row_writes")


def of_the_store() -> bool:
    """Whether a statement is run by `store/`, or for several works of it: by the last module of ours that is called."""
    frame = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.startswith("gateway_client.") and name not in CARRIERS:
            return name.startswith(("gateway_client.store.", "gateway_client.group_transaction"))
        assert frame.f_back is not None
        frame = frame.f_back
    return False


def met(world: World) -> AnyClient:
    """A client that knows whose credential it has, what time it is there, and whose the store is."""
    client = world.open_client(retry=ONE_SEND)
    assert client.charge(replace(ORDER, intent_id="order_first")).state is State.SUCCEEDED
    return client


def test_an_undisturbed_charge(world: World) -> None:
    """Two commits: the row with its first send, in four statements; the outcome, in three. One of them reads."""
    client = met(world)
    with counted(world) as found:
        assert client.charge(ORDER).state is State.SUCCEEDED
    claim, outcome = found.transactions
    assert [statement.split()[0] for statement in claim] == ["SELECT", "INSERT", "INSERT", "INSERT"]
    assert [statement.split()[0] for statement in outcome] == ["UPDATE", "UPDATE", "INSERT"]
    assert found.open == []
    told = "SELECT event_no, event, state_before, state_after FROM paycli_events WHERE intent_id = ? ORDER BY 1"
    history = world.sql(told, (ORDER.intent_id,))
    assert history == [
        (1, "claimed", None, "prepared"),
        (2, "send begun", "prepared", "sending"),
        (3, "succeeded", "sending", "succeeded"),
    ]


@pytest.mark.parametrize("fault", ["lost_request", "error_500", "rate_limited_429"])
def test_a_charge_that_stays_unknown(world: World, fault: str) -> None:
    """What is not proven costs no more."""
    client = met(world)
    world.sandbox.fault(fault)
    with counted(world) as found:
        assert client.charge(ORDER).state is State.UNKNOWN
    assert found.counts == [4, 3]


def test_the_first_charge_of_a_process(world: World) -> None:
    """While the account and the provider's time are not known the row is written alone, and then asked for."""
    met(world)
    client = world.open_client(retry=ONE_SEND)
    with counted(world) as found:
        assert client.charge(ORDER).state is State.SUCCEEDED
    assert found.counts[-3:] == [3, 6, 3]


def test_a_charge_again(world: World) -> None:
    """A charge that is final is read in one transaction."""
    client = met(world)
    client.charge(ORDER)
    with counted(world) as found:
        client.charge(ORDER)
    assert found.counts == [3]


def test_a_second_attempt(world: World) -> None:
    """Attempt 2, once the first is cleared, is begun in the commit that makes its row, too."""
    client = met(world)
    assert client.charge(DECLINED).state is State.DECLINED
    with counted(world) as found:
        assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    cleared, claim, outcome = found.transactions
    assert [statement.split()[0] for statement in claim[-3:]] == ["INSERT", "INSERT", "INSERT"]
    assert (len(cleared), len(claim), len(outcome)) == (4, 7, 3)


def test_what_an_unknown_row_costs_does_not_grow(world: World) -> None:
    """Each resume of a row costs the same, however often it was sent: five at the gate, and two for the same answer."""
    client = met(world)
    world.sandbox.fault("lost_request", times=4)
    assert client.charge(ORDER).state is State.UNKNOWN
    for _ in range(3):
        with counted(world) as found, suppress(ProviderUnavailable):
            client.resume()
        assert found.counts == [5, 2]


def test_a_charge_costs_the_same_in_a_full_store(world: World) -> None:
    """Settled rows of other intents add no statement."""
    client = met(world)
    for number in range(20):
        client.charge(replace(ORDER, intent_id=f"order_{number}"))
    with counted(world) as found:
        client.charge(replace(ORDER, intent_id="order_last"))
    assert found.counts == [4, 3]
