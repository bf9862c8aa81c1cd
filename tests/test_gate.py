"""BeginSend, the gate: each condition of DESIGN §6 that refuses a send, one by one, on the row as it is on disk."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from gateway_client import ClockRefused, ConfigurationError, NeedsPerson, NotNow, State, Stripe, UnknownIntent
from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import BeginSend, Begun, Held, Next, Settle
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.outcome import (
    Answer,
    Cause,
    NotExecuted,
    Outcome,
    Processing,
    Refused,
    ReplyClass,
    RequiresAction,
    Succeeded,
    Unknown,
)
from gateway_client.store import perform
from gateway_client.tables import PendingCharge
from gateway_client.transaction import Transaction
from tests.kit import BOUNDS, ORDER, START, World

CREDENTIAL, ROTATED = (Stripe(key).credential_id for key in ("sk_test_sandbox", "sk_test_rotated"))
SECOND = timedelta(seconds=1)
REFUSED = Refused(Cause.RATE_LIMITED, "429")


@pytest.fixture
def world() -> Iterator[World]:
    """With one prepared charge."""
    with World() as world:
        world.open_client().prepare(ORDER)
        yield world


def begin(
    world: World,
    *,
    attempt: int = 1,
    credential_id: str = CREDENTIAL,
    time_asked: bool = True,
    read_at: datetime | None = None,
) -> Begun | Held:
    return world.perform(
        BeginSend(ORDER.intent_id, attempt, world.binding, PROFILE, credential_id, world.altered, time_asked, read_at)
    )


def settle(
    world: World, outcome: Outcome, *, status: int | None = None, send_no: int | None = None, proven: bool = False
) -> None:
    reply = ReplyClass.SERVER_ERROR if status == 500 else ReplyClass.ANSWERED
    answer = Answer(outcome, proven, status, reply)
    world.perform(Settle(ORDER.intent_id, 1, answer, saves_declines=True, send_no=send_no))


def fail(world: World, times: int) -> None:
    for _ in range(times):
        begun = begin(world)
        assert isinstance(begun, Begun)
        settle(world, Unknown("HTTP 500"), status=500, send_no=begun.send_no)


def test_lets_through_and_writes_down(world: World) -> None:
    """What the gate lets through is on disk: the send, its time, its credential, and the state `sending` (S2)."""
    begun = begin(world)
    assert isinstance(begun, Begun)
    row = world.row()
    assert (begun.send_no, begun.body, begun.api_version) == (1, row["body"], row["api_version"])
    assert (row["state"], begun.charge.state) == ("sending", State.SENDING)
    assert begun.charge.first_sent_at == START
    assert world.sql("SELECT send_no, credential_id, ended_at FROM paycli_sends") == [(1, CREDENTIAL, None)]
    assert world.sql("SELECT event, state_before, state_after FROM paycli_events ORDER BY event_no")[-1] == (
        "send begun",
        "prepared",
        "sending",
    )


def test_moves_only_prepared(world: World) -> None:
    """A second send of an attempt in doubt leaves its state and the time of its first send as they are."""
    begin(world)
    world.clock.advance(hours=1)
    assert isinstance(begin(world), Begun)
    settle(world, Unknown("timeout"), send_no=1)
    assert isinstance(begin(world), Begun)
    assert world.state() is State.UNKNOWN
    assert world.perform(Settle(ORDER.intent_id, 1, Answer(Unknown("")), saves_declines=True)).first_sent_at == START


@pytest.mark.parametrize(
    ("outcome", "held"),
    [
        (Succeeded("pi_1", "ch_1"), Next.NOTHING),
        (Processing("later", "pi_1"), Next.RETRIEVE),
        (RequiresAction("bank", "pi_1"), Next.RETRIEVE),
        (Unknown("the provider's intent exists", "pi_1"), Next.RETRIEVE),
        (Processing("later"), Next.LOOK_UP),
    ],
)
def test_refuses_by_state_or_known_intent(world: World, outcome: Outcome, held: Next) -> None:
    """Refused: any state but prepared, sending and unknown, and whatever the provider has an intent of."""
    settle(world, outcome)
    before = world.row()
    answer = begin(world)
    assert isinstance(answer, Held)
    assert (answer.next, world.row()) == (held, before)


@pytest.mark.parametrize("state", ["conflict", "declined", "rejected", "canceled", "absent", "succeeded"])
def test_refuses_every_other_state(world: World, state: str) -> None:
    """Refused: `conflict`, which is looked up, and everything final."""
    world.sql("UPDATE pending_charges SET state = ?", (state,))
    answer = begin(world)
    assert isinstance(answer, Held)
    assert answer.next is (Next.LOOK_UP if state == "conflict" else Next.NOTHING)
    assert world.sql("SELECT count(*) FROM paycli_sends") == [(0,)]


def test_refuses_a_closed_attempt(world: World) -> None:
    """Refused: an attempt that is closed."""
    begin(world)
    world.sql("UPDATE pending_charges SET closed_at = ?", ("2026-11-20 12:00:00.000000",))
    answer = begin(world)
    assert isinstance(answer, Held)
    assert answer.next is Next.LOOK_UP


def test_refuses_after_two_500s(world: World) -> None:
    """Refused: an attempt with two 500s; one is sent again (F37)."""
    fail(world, 2)
    answer = begin(world)
    assert isinstance(answer, Held)
    assert answer.next is Next.LOOK_UP


@pytest.mark.parametrize(("age", "through"), [(BOUNDS.key_life - SECOND, True), (BOUNDS.key_life, False)])
def test_refuses_and_closes_when_the_keys_life_is_over(world: World, age: timedelta, *, through: bool) -> None:
    """Refused: a key whose life is over; the attempt is closed in the same commit (S5)."""
    begin(world)
    world.clock.advance(age)
    assert isinstance(begin(world), Begun) == through
    assert (world.row()["closed_at"] is None) == through


@pytest.mark.parametrize("time_asked", [True, False])
def test_no_quiet_time_begins_with_the_closing(world: World, *, time_asked: bool) -> None:
    """The gate closes an attempt by a time that may have been asked for long before: no quiet time counts from that."""
    begin(world)
    world.clock.advance(BOUNDS.key_life)
    answer = begin(world, time_asked=time_asked)
    assert isinstance(answer, Held)
    assert answer.next is Next.LOOK_UP
    assert (answer.charge.closed_at, answer.charge.quiet_from) == (world.clock.now, None)


def test_asks_the_time_before_a_send_that_follows_another(world: World) -> None:
    """Held for the provider's time: an attempt of which a send has left, or may have; a first send needs none (S5)."""
    assert isinstance(begin(world, time_asked=False), Begun)
    before = world.row()
    answer = begin(world, time_asked=False)
    assert isinstance(answer, Held)
    assert (answer.next, world.row()) == (Next.ASK_TIME, before)
    settle(world, NotExecuted(Cause.NOT_SENT, "refused"), send_no=1)
    assert isinstance(begin(world, time_asked=False), Begun), "nothing has left"
    settle(world, REFUSED, send_no=2)
    answer = begin(world, time_asked=False)
    assert isinstance(answer, Held)
    assert answer.next is Next.ASK_TIME
    assert isinstance(begin(world), Begun)


TAMPERED: dict[str, str] = {
    "another key": "UPDATE pending_charges SET idempotency_key = 'pc1_' || substr(idempotency_key, 6) || 'a'",
    "another body": "UPDATE pending_charges SET body = replace(body, 'amount=2000', 'amount=9000')",
    "another hash": "UPDATE pending_charges SET body_sha256 = 'x'",
    "another intent's row": "UPDATE pending_charges SET idempotency_key = 'pc1_other'",
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_refuses_what_was_changed(world: World, kind: str) -> None:
    """Refused: a stored key that is not the computed one, or a body that is not the frozen one; the row stays."""
    world.sql(TAMPERED[kind])
    before = world.row()
    with pytest.raises(NeedsPerson, match="changed by hand"):
        world.open_client().charge(ORDER)
    assert (world.sends, world.row()) == ([], before)


def test_refuses_with_an_open_finding(world: World) -> None:
    """Refused: anything of an intent about which a finding is open; closed, it is sent."""
    world.open_finding()
    before = world.row()
    with pytest.raises(NeedsPerson, match="finding-order_42"):
        world.open_client().charge(ORDER)
    assert (world.sends, world.row()) == ([], before)
    world.sql("UPDATE paycli_findings SET closed_at = found_at")
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    ("attempt", "charged", "through"), [(1, False, True), (1, True, True), (2, False, True), (2, True, False)]
)
def test_refuses_what_is_paid_by_another_attempt(
    world: World, attempt: int, *, charged: bool, through: bool, closed: bool
) -> None:
    """Refused, closed or not: a finding that the provider took money by another attempt; open, every finding (S1)."""
    world.open_finding(attempt=attempt, charged=charged)
    if closed:
        world.sql("UPDATE paycli_findings SET closed_at = found_at, closed_by = 'ann@host'")
    before = world.row()
    if closed and through:
        assert isinstance(begin(world), Begun)
        return
    with pytest.raises(NeedsPerson, match="finding-order_42" if not closed else "an intent id of its own"):
        begin(world)
    assert (world.row(), world.sql("SELECT count(*) FROM paycli_sends")) == (before, [(0,)])


def test_refuses_while_another_attempt_succeeded(world: World) -> None:
    """Refused: an attempt beside one that succeeded, which the database's unique index forbids as well (S1)."""
    binding = world.binding
    columns = [name for name in PendingCharge.model_fields if name not in ("attempt", "state", "idempotency_key")]

    def work(tx: Transaction) -> Begun | Held:
        tx.execute(text("DROP INDEX pending_charges_one_live"))  # until this transaction is undone
        tx.execute(
            text(
                f"INSERT INTO pending_charges (attempt, state, idempotency_key, {', '.join(columns)}) "
                f"SELECT 2, 'succeeded', 'pc1_2', {', '.join(columns)} FROM pending_charges"
            )
        )
        return perform(tx, BeginSend(ORDER.intent_id, 1, binding, PROFILE, CREDENTIAL, world.altered, True))

    with pytest.raises(NeedsPerson, match="attempt 2 succeeded"):
        world.transact(work)
    assert world.sql("SELECT attempt FROM pending_charges") == [(1,)]


def test_finding_of_another_intent(world: World) -> None:
    """A finding stops only its own intent."""
    world.open_finding("order_43")
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED


@pytest.mark.parametrize("column", ["account", "mode", "namespace", "provider", "store_id"])
def test_refuses_a_store_bound_anew(world: World, column: str) -> None:
    """Refused: a store that is no longer of the account, mode and namespace that this process began with (S11)."""
    client = world.open_client()
    client.resume(limit=1)
    client.prepare(replace(ORDER, intent_id="order_43"))
    world.sql(f"UPDATE paycli_store SET {column} = 'x'")
    with pytest.raises(ConfigurationError):
        client.charge(replace(ORDER, intent_id="order_43"))
    assert len(world.sends) == 1
    assert world.state("order_43") is State.PREPARED


@pytest.mark.parametrize(("seconds", "through"), [(59, True), (61, False)])
def test_refuses_a_clock_behind_the_store(world: World, seconds: int, *, through: bool) -> None:
    """Refused: a time more than a minute behind the latest that the store has seen."""
    world.sql("UPDATE paycli_store SET created_at = ?", (f"2026-11-20 12:{seconds // 60:02}:{seconds % 60:02}.0",))

    def refused(act: Callable[[], object], kind: type[ChargeOnceError]) -> bool:
        try:
            act()
        except kind:
            return True
        return False

    assert refused(lambda: begin(world), ClockRefused) != through
    assert issubclass(ClockRefused, NotNow)


def test_unknown_row(world: World) -> None:
    """A row that is not there is not sent."""
    with pytest.raises(UnknownIntent):
        world.perform(BeginSend("nothing", 1, world.binding, PROFILE, CREDENTIAL, world.altered, time_asked=True))
