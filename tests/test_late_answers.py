"""Answers that come when a charge is settled: nothing is overwritten, a contradiction becomes one finding."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway_client import NeedsPerson, State
from gateway_client.finding import Action, Code, Found
from gateway_client.outcome import Declined, Outcome, Processing, RequiresAction, Succeeded, Unknown
from gateway_client.store.findings import close_finding, record_finding
from tests.kit import ONE_SEND, ORDER, World
from tests.test_gate import begin, settle


@pytest.fixture
def world() -> Iterator[World]:
    """With one prepared charge."""
    with World() as world:
        world.open_client().prepare(ORDER)
        yield world


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


# A finding that a person has closed

FOUND = Found(
    Code.MISSING_LOCALLY, ORDER.intent_id, 2, "ch_1", "no row", "succeeded 20.00 usd ch_1", "not captured yet."
)


def find(world: World, found: Found, run_id: str | None = None) -> Action:
    return world.transact(lambda tx: record_finding(tx, found, Action.FLAGGED, run_id=run_id))


def close(world: World) -> None:
    world.transact(lambda tx: close_finding(tx, FOUND.id, "seen"))


def facts(world: World) -> list[tuple[object, ...]]:
    rows = world.sql("SELECT closed_at IS NULL, here, there, charged FROM paycli_findings")
    return [(bool(is_open), here, there, bool(charged)) for is_open, here, there, charged in rows]


def test_the_same_again_stays_closed(world: World) -> None:
    """What a person has closed stays closed when the same is found again."""
    find(world, FOUND)
    close(world)
    assert find(world, replace(FOUND, detail="in other words.")) is Action.RECORDED
    assert facts(world) == [(False, FOUND.here, FOUND.there, False)]


@pytest.mark.parametrize(
    "changed", [{"here": "absent 20.00 usd"}, {"there": "succeeded 20.00 usd ch_1 ch_2"}, {"charged": True}]
)
def test_other_facts_open_it_again(world: World, changed: dict[str, object]) -> None:
    """A finding whose facts have changed since a person closed it is open again: that nobody has looked at."""
    find(world, FOUND)
    close(world)
    now = replace(FOUND, **changed)  # type: ignore[arg-type]
    assert find(world, now) is Action.FLAGGED
    assert facts(world) == [(True, now.here, now.there, now.charged)]


def test_money_that_was_taken_is_not_forgotten(world: World) -> None:
    """That the provider has taken money stays true, whatever is found later and whoever closes it (S1)."""
    find(world, replace(FOUND, code=Code.STATUS_MISMATCH, charged=True))
    find(world, replace(FOUND, code=Code.STATUS_MISMATCH, there="refunded"))
    world.sql("UPDATE paycli_findings SET closed_at = found_at, closed_by = 'ann@host'")
    assert facts(world) == [(False, FOUND.here, "refunded", True)]
    with pytest.raises(NeedsPerson, match="an intent id of its own"):
        begin(world)


@pytest.mark.parametrize(
    ("outcome", "charged"), [(Succeeded("pi_1", "ch_1"), True), (Declined("card_declined", "pi_1", "ch_1"), False)]
)
def test_what_a_late_answer_charged(world: World, outcome: Outcome, *, charged: bool) -> None:
    """A late success is a finding that money was taken, a late decline is one that it was not."""
    world.sql("UPDATE pending_charges SET state = 'absent'")
    settle(world, outcome)
    assert [fact[3] for fact in facts(world)] == [charged]
