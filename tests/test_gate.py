"""BeginSend, the gate: each condition of DESIGN §6 that refuses a send, one by one, on the row as it is on disk."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway_client import ClockRefused, ConfigurationError, NeedsPerson, NotNow, State, Stripe, UnknownIntent
from gateway_client.errors import ChargeOnceError
from gateway_client.flow.effects import BeginSend, Begun, Held, Next, Settle
from gateway_client.gateways.stripe_api import PROFILE
from gateway_client.outcome import Answer, Outcome, Processing, RequiresAction, Succeeded, Unknown
from tests.kit import ONE_SEND, ORDER, START, World

CREDENTIAL = Stripe("sk_test_sandbox").credential_id


@pytest.fixture
def world() -> Iterator[World]:
    """With one prepared charge."""
    with World() as world:
        world.open_client().prepare(ORDER)
        yield world


def begin(world: World, *, credential_id: str = CREDENTIAL, looked_up: bool = False) -> Begun | Held:
    return world.perform(BeginSend(ORDER.intent_id, 1, world.binding, PROFILE, credential_id, looked_up))


def settle(world: World, outcome: Outcome, *, status: int | None = None, send_no: int | None = None) -> None:
    world.perform(Settle(ORDER.intent_id, 1, Answer(outcome, status=status), saves_declines=True, send_no=send_no))


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


@pytest.mark.parametrize(("age", "through"), [(timedelta(hours=23, seconds=-1), True), (timedelta(hours=23), False)])
def test_refuses_and_closes_when_the_keys_life_is_over(world: World, age: timedelta, *, through: bool) -> None:
    """Refused: a key whose life is over; the attempt is closed in the same commit (S5)."""
    begin(world)
    world.clock.advance(seconds=age.total_seconds())
    assert isinstance(begin(world), Begun) == through
    assert (world.row()["closed_at"] is None) == through


def test_another_credential_looks_first(world: World) -> None:
    """Held for a look-up: an attempt in doubt that was sent under another credential; not one that never left."""
    other = Stripe("sk_test_rotated").credential_id
    begin(world)
    answer = begin(world, credential_id=other)
    assert isinstance(answer, Held)
    assert answer.next is Next.LOOK_UP_THEN_SEND
    assert isinstance(begin(world, credential_id=other, looked_up=True), Begun)


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


def test_finding_of_another_intent(world: World) -> None:
    """A finding stops only its own intent."""
    world.open_finding("order_43")
    assert world.open_client().charge(ORDER).state is State.SUCCEEDED


@pytest.mark.parametrize("column", ["account", "mode", "namespace", "provider"])
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
    world.sql("UPDATE paycli_store SET latest_seen_at = ?", (f"2026-11-20 12:{seconds // 60:02}:{seconds % 60:02}.0",))

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
        world.perform(BeginSend("nothing", 1, world.binding, PROFILE, CREDENTIAL, looked_up=False))


def test_late_answers_of_a_settled_charge(world: World) -> None:
    """A different final answer never overwrites: it becomes one finding; the same answer again is a no-op (S9)."""
    begin(world)
    begin(world)
    settle(world, Succeeded("pi_1", "ch_1"), send_no=1)
    events = world.sql("SELECT count(*) FROM paycli_events")
    settle(world, Succeeded("pi_1", "ch_1"), send_no=2)
    assert world.sql("SELECT count(*) FROM paycli_events") == events
    assert world.sql("SELECT count(*) FROM paycli_findings") == [(0,)]
    settle(world, Unknown("timeout"))
    assert world.state() is State.SUCCEEDED


@pytest.mark.parametrize("state", ["declined", "rejected", "canceled", "absent"])
def test_late_success_is_a_finding(world: World, state: str) -> None:
    """A success after a refusal never changes the row: it is one finding, however often it is told (S8, F118)."""
    world.sql("UPDATE pending_charges SET state = ?", (state,))
    for _ in range(3):
        settle(world, Succeeded("pi_1", "ch_1"))
    assert world.state() == state
    assert world.sql("SELECT code, intent_id, provider_charge_id, closed_at FROM paycli_findings") == [
        ("status_mismatch", ORDER.intent_id, "ch_1", None)
    ]
    with pytest.raises(NeedsPerson):
        world.open_client(retry=ONE_SEND).charge(ORDER, attempt=2)


def test_second_success_is_a_finding(world: World) -> None:
    """Two successes of one attempt that name different charges are a contradiction, never swallowed (F65, S1)."""
    settle(world, Succeeded("pi_1", "ch_1"))
    settle(world, Succeeded("pi_2", "ch_2"))
    assert world.row()["provider_charge_id"] == "ch_1"
    assert world.sql("SELECT code, provider_charge_id FROM paycli_findings") == [("duplicate_charge", "ch_2")]


@pytest.mark.parametrize("outcome", [Processing("later", "pi_1"), Unknown("timeout"), RequiresAction("bank", "pi_1")])
def test_same_evidence_again_is_a_no_op(world: World, outcome: Outcome) -> None:
    """The same outcome again writes nothing: a debit asked for each minute for days must not fill the history."""
    begin(world)
    settle(world, outcome)
    before = (world.row(), world.sql("SELECT count(*) FROM paycli_events"))
    settle(world, outcome)
    assert (world.row(), world.sql("SELECT count(*) FROM paycli_events")) == before
