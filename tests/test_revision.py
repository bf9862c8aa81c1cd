"""The revision of a row: an outcome is recorded by what was read with its send only while nobody has written since.

What an outcome is judged by (`store/settle.py`) is the row and its sends, and beside a conflict its findings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.orm import Session

from gateway_client import State, postgres, store
from gateway_client.absence import Scan
from gateway_client.flow.effects import BeginSend, Begun, GiveUp, NoteQuiet, ProveAbsent, Settle
from gateway_client.flow.leasing import Lease, Release
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.outcome import (
    Answer,
    Canceled,
    Cause,
    Conflict,
    Declined,
    InFlight,
    NotExecuted,
    Outcome,
    Processing,
    Refused,
    Rejected,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.transaction import Opened, Transaction
from tests.kit import ORDER, START, World

WAIT_S_MAX = 20.0
DATABASES = ("sync", "sync, postgresql")
OUTCOMES: tuple[Outcome, ...] = (
    Succeeded("pi_1", "ch_1"),
    Declined("no funds", "pi_1"),
    Rejected("bad parameter"),
    Processing("later", "pi_1"),
    RequiresAction("3ds", "pi_1"),
    Canceled("over", "pi_1"),
    NotExecuted(Cause.NOT_SENT, "refused"),
    Refused(Cause.RATE_LIMITED, "429"),
    InFlight("409"),
    Unknown("timeout"),
    Conflict("another amount", "pi_1", "ch_1"),
)
SCAN = Scan(START, START, None, START, {}, frozenset())


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        world.open_client().prepare(ORDER)
        yield world


def begins(world: World, credential: str = "one") -> BeginSend:
    return BeginSend(ORDER.intent_id, 1, world.binding, PROFILE, credential, world.altered, time_asked=True)


def begun(world: World) -> Begun:
    """A send of the one attempt, begun."""
    result = world.perform(begins(world))
    assert isinstance(result, Begun)
    return result


def outcome(of: Begun, outcome: Outcome, *, seen: bool = True) -> Settle:
    """The record of what became of a send."""
    answer = Answer(outcome, proven=True, status=200, request_id="req_1")
    return Settle(ORDER.intent_id, 1, answer, True, of.send_no, of.record if seen else None)


def on_disk(world: World) -> list[Any]:
    tables = ("pending_charges", "paycli_sends", "paycli_events", "paycli_findings")
    world.sql("UPDATE pending_charges SET first_sent_db_at = NULL")  # the one time that is real on PostgreSQL
    return [world.sql(f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables]


def revision(world: World) -> int:
    return int(world.row()["revision"])


@pytest.mark.parametrize("told", OUTCOMES, ids=lambda told: type(told).__name__)
@pytest.mark.parametrize("kind", DATABASES)
def test_with_what_was_read_it_is_as_without(kind: str, told: Outcome) -> None:
    """Whatever the provider answered, row, sends and history are the same, and so is what the caller is told."""
    found = []
    for seen in (True, False):
        with World(kind) as world:
            world.open_client().prepare(ORDER)
            charge = world.perform(outcome(begun(world), told, seen=seen))
            found.append((charge, on_disk(world)))
    by_seen, by_lock = (replace(charge, resume_at=None) for charge, _ in found)
    assert (by_seen, found[0][1]) == (by_lock, found[1][1])


def another_send(world: World) -> None:
    begun(world)


def its_own_answer(world: World) -> None:
    world.perform(Settle(ORDER.intent_id, 1, Answer(Unknown("timeout")), True, 1))


def found_in_a_list(world: World) -> None:
    world.perform(Settle(ORDER.intent_id, 1, Answer(Processing("later", "pi_1")), True))


def given_up(world: World) -> None:
    world.perform(GiveUp(ORDER.intent_id, "test", PROFILE))


def quiet_noted(world: World) -> None:
    world.perform(NoteQuiet(ORDER.intent_id, 1))


def read_in_vain(world: World) -> None:
    world.perform(ProveAbsent(ORDER.intent_id, 1, PROFILE, SCAN, closed=False))


def held_for_another_key(world: World) -> None:
    world.perform(begins(world, "two"))


WRITES: tuple[Callable[[World], None], ...] = (
    another_send,
    its_own_answer,
    found_in_a_list,
    given_up,
    read_in_vain,
    held_for_another_key,
)


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_every_write_is_a_new_revision(world: World, write: Callable[[World], None]) -> None:
    """Whatever is written of the row or of its sends makes another revision, and an outcome is judged anew."""
    first = begun(world)
    before = revision(world)
    assert first.record.row["revision"] == before
    write(world)
    assert revision(world) > before
    written = on_disk(world)
    world.perform(outcome(first, Unknown("timeout")))
    by_lock = on_disk(world)
    assert len(by_lock[2]) >= len(written[2])  # nothing of what was written meanwhile is gone
    assert by_lock[2][: len(written[2])] == written[2]


def test_a_moment_that_is_noted_is_a_new_revision(world: World) -> None:
    """From when a closed attempt is quiet is noted without an event, and counts all the same."""
    begun(world)
    given_up(world)
    before = revision(world)
    quiet_noted(world)
    assert revision(world) == before + 1
    quiet_noted(world)  # it is known by now
    assert revision(world) == before + 1


def test_leases_are_none(world: World) -> None:
    """A worker's lease changes nothing that an outcome is judged by."""
    before = revision(world)
    assert len(world.perform(Lease("worker", 10, 60.0, 10.0))) == 1
    world.perform(Release("worker", ((world.row()["idempotency_key"], 5.0),)))
    assert revision(world) == before


def test_a_rejection_beside_a_send_begun_since(world: World) -> None:
    """A rejection is no end while a send that was begun after it was read is open (S8)."""
    first = begun(world)
    begun(world)
    assert world.perform(outcome(first, Rejected("bad parameter"))).state is State.UNKNOWN


def test_what_never_left_beside_a_send_begun_since(world: World) -> None:
    """The time of the first send is not cleared while another one may have left (S2)."""
    first = begun(world)
    begun(world)
    charge = world.perform(outcome(first, NotExecuted(Cause.NOT_SENT, "refused")))
    assert (charge.state, charge.first_sent_at) == (State.UNKNOWN, START)


def test_given_up_meanwhile(world: World) -> None:
    """What never left and was given up meanwhile is canceled, not prepared again."""
    first = begun(world)
    given_up(world)
    assert world.perform(outcome(first, NotExecuted(Cause.NOT_SENT, "refused"))).state is State.CANCELED


def test_a_final_state_reached_meanwhile(world: World) -> None:
    """A success that another one has recorded is not overwritten by what this send was told (S9)."""
    first = begun(world)
    world.perform(Settle(ORDER.intent_id, 1, Answer(Succeeded("pi_1", "ch_1")), True))
    assert world.perform(outcome(first, Rejected("bad parameter"))).state is State.SUCCEEDED
    assert world.sql("SELECT outcome FROM paycli_sends") == [("rejected",)]


def test_a_conflict_reached_meanwhile_waits_for_a_person(world: World) -> None:
    """Beside a conflict whose numbers a run has flagged, a success is not believed: findings are asked there."""
    first = begun(world)
    world.perform(Settle(ORDER.intent_id, 1, Answer(Conflict("another amount", "pi_1", "ch_1")), True))
    world.open_finding()
    world.sql("UPDATE paycli_findings SET code = 'amount_mismatch'")
    assert world.perform(outcome(first, Succeeded("pi_1", "ch_1"))).state is State.CONFLICT


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "SERIALIZABLE"])
def test_who_waits_for_the_row_reads_it_again(isolation: str) -> None:
    """An outcome that waits for whoever begins another send is judged by what that one has left."""
    with World("sync, postgresql") as world:
        world.open_client().prepare(ORDER)
        first = begun(world)
        told: list[State] = []

        def perform(session: Session, effect: Any) -> Any:
            opened = Opened(own_clock=True)
            tx = Transaction(
                session.connection(), opened, actor="billing@web-3", time=lambda: world.clock.now, lock=postgres.lock
            )
            return store.perform(tx, effect)

        def record() -> None:
            while not told:
                with engine.connect() as connection, Session(connection) as session:
                    try:
                        charge = perform(session, outcome(first, Rejected("bad parameter")))
                        session.commit()
                    except Exception:  # it could not be serialized: `db.py` does it again, too
                        session.rollback()
                        continue
                    told.append(charge.state)

        engine = world._engine.execution_options(isolation_level=isolation)
        effect = begins(world)
        with engine.connect() as connection, Session(connection) as session:
            assert isinstance(perform(session, effect), Begun)
            recording = threading.Thread(target=record)
            recording.start()
            recording.join(0.5)
            assert (recording.is_alive(), told) == (True, [])  # it waits
            session.commit()
            recording.join(WAIT_S_MAX)
        assert told == [State.UNKNOWN]
        assert [row[0] for row in world.sql("SELECT outcome FROM paycli_sends ORDER BY send_no")] == ["rejected", None]
