"""Leases on disk: which rows a worker gets, in which order, for how long; what the gate says of one that is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy.dialects import postgresql

from gateway_client import PaymentIntent, State, Stripe
from gateway_client.flow.effects import BeginSend, Begun, Held, Next
from gateway_client.flow.leasing import Lease, Release
from gateway_client.store import leases
from tests.kit import ONE_SEND, ORDER, START, World
from tests.worker_kit import DATABASES, TimedWorld

SECONDS, OPEN_S = 140.0, 40.0


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with TimedWorld(request.param) as world:
        yield world


def order(name: str) -> PaymentIntent:
    return replace(ORDER, intent_id=name)


def take(world: World, worker: str = "a", rows_max: int = 10) -> list[str]:
    return [charge.intent_id for charge in world.perform(Lease(worker, rows_max, SECONDS, OPEN_S))]


def give_back(world: World, worker: str = "a", name: str = ORDER.intent_id, aside_s: float | None = None) -> None:
    world.perform(Release(worker, ((world.row(name)["idempotency_key"], aside_s),)))


def held(world: World, name: str = ORDER.intent_id) -> tuple[object, ...]:
    row = world.row(name)
    return row["leased_by"], row["leased_until"], row["resume_at"]


def on_disk(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def test_oldest_deadline_first(world: World) -> None:
    """Charges that were sent come by their first send; those never sent come after them, by their age."""
    client = world.open_client(retry=ONE_SEND)
    for name in ("never_1", "never_2", "sent_2", "sent_1"):
        client.prepare(order(name))
        world.clock.advance(seconds=1)
    for name in ("sent_1", "sent_2"):
        world.sandbox.fault("lost_request")
        client.charge(order(name))
        world.clock.advance(seconds=1)
    assert take(world, rows_max=3) == ["sent_1", "sent_2", "never_1"]
    assert take(world, "b") == ["never_2"]


def test_final_rows_are_left_alone(world: World) -> None:
    """What has ended is nobody's work."""
    world.open_client().charge(ORDER)
    assert take(world) == []


def test_a_live_lease_is_skipped(world: World) -> None:
    """A row belongs to one worker until its lease is over; then anybody may take it."""
    world.open_client().prepare(ORDER)
    assert take(world) == [ORDER.intent_id]
    assert held(world) == ("a", on_disk(START + timedelta(seconds=SECONDS)), None)
    world.clock.advance(seconds=SECONDS - 1)
    assert take(world, "b") == []
    world.clock.advance(seconds=1)
    assert take(world, "b") == [ORDER.intent_id]
    assert held(world) == ("b", on_disk(START + timedelta(seconds=2 * SECONDS)), None)


def test_given_back(world: World) -> None:
    """A row that is given back can be taken at once, or when the time is over for which it was set aside."""
    world.open_client().prepare(ORDER)
    take(world)
    give_back(world)
    assert (held(world), take(world, "b")) == ((None, None, None), [ORDER.intent_id])
    give_back(world, "b", aside_s=60)
    assert (held(world), take(world)) == ((None, None, on_disk(START + timedelta(minutes=1))), [])
    world.clock.advance(minutes=1)
    assert take(world) == [ORDER.intent_id]


def test_only_its_holder_gives_it_back(world: World) -> None:
    """A worker that was paused for too long does not give back, nor sets aside, what is another's by now."""
    world.open_client().prepare(ORDER)
    take(world)
    world.clock.advance(seconds=SECONDS)
    take(world, "b")
    before = held(world)
    give_back(world, "a", aside_s=3600)
    assert held(world) == before


def test_a_worker_takes_its_own_again(world: World) -> None:
    """A lease that was committed and never confirmed, or could not be given back, keeps a worker from nothing."""
    world.open_client().prepare(ORDER)
    assert (take(world), take(world, "b"), take(world)) == ([ORDER.intent_id], [], [ORDER.intent_id])


def test_an_open_send_is_somebody_s(world: World) -> None:
    """A send whose answer may still come is left to whoever waits for it; a dead process's row is taken after that."""
    world.open_client().prepare(ORDER)
    world.perform(begin(world, None))
    assert (world.state(), take(world)) == (State.SENDING, [])
    world.clock.advance(seconds=OPEN_S)
    assert take(world) == [ORDER.intent_id]


def begin(world: World, worker: str | None) -> BeginSend:
    gateway = Stripe(world.sandbox.api_key)
    profile, credential = gateway.profile, gateway.credential_id
    return BeginSend(
        ORDER.intent_id, 1, world.binding, profile, credential, world.altered, time_asked=True, lease_of=worker
    )


@pytest.mark.parametrize(
    ("worker", "passed_s", "sends"),
    [
        ("a", 0.0, True),
        (None, 0.0, True),  # a caller's own `charge` needs no lease: leases carry no safety
        ("b", 0.0, False),
        ("a", SECONDS - 10.1, True),
        ("a", SECONDS - 10.0, False),  # the wire may let it leave 10 s after this commit
        ("a", SECONDS + 1.0, False),
    ],
)
def test_the_gate_reads_the_lease_again(world: World, worker: str | None, passed_s: float, sends: bool) -> None:
    """A worker whose lease is over, or would be before its first byte, or is another's, begins no send (F11)."""
    world.open_client().prepare(ORDER)
    take(world, "a")
    world.clock.advance(seconds=passed_s)
    result = world.perform(begin(world, worker))
    assert isinstance(result, Begun if sends else Held)
    assert world.sql("SELECT count(*) FROM paycli_sends") == [(int(sends),)]
    if isinstance(result, Held):
        assert (result.next, world.state()) == (Next.NOTHING, State.PREPARED)


def test_a_row_without_a_lease(world: World) -> None:
    """A worker sends nothing of a row that it never took."""
    world.open_client().prepare(ORDER)
    assert isinstance(world.perform(begin(world, "a")), Held)


def test_statement_on_postgresql() -> None:
    """On PostgreSQL rows that another worker has locked are skipped, and the pending charges alone are locked."""
    sql = str(leases._DUE.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert sql.rstrip().endswith("FOR UPDATE OF pending_charges SKIP LOCKED")


@pytest.mark.parametrize("kind", DATABASES)
def test_one_clock_judges_leases(kind: str) -> None:
    """Windows and leases use the database's clock where it has one: a host that is a day ahead takes no other's row
    (F95)."""
    with TimedWorld(kind) as world:
        on_server = kind.endswith("postgresql")
        world.database_off = timedelta(hours=-3)
        world.open_client().prepare(ORDER)
        assert take(world) == [ORDER.intent_id]
        now = START + world.database_off if on_server else START
        assert held(world) == ("a", on_disk(now + timedelta(seconds=SECONDS)), None)
        world.database_off -= timedelta(days=1)
        world.clock.advance(hours=24)
        assert take(world, "b") == ([] if on_server else [ORDER.intent_id])
