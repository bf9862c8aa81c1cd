"""What holds for any operation: a toy one, tips upon a charge, goes through tables, gate, leases, findings, worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from gateway_client import (
    AttemptRefused,
    Client,
    IntentConflict,
    Money,
    NeedsPerson,
    NotOffered,
    NotPossible,
    State,
    Worker,
)
from gateway_client.charge import Charge
from gateway_client.evidence import RULES_OF
from gateway_client.flow.acting import act_flow
from gateway_client.flow.effects import Settle
from gateway_client.operation import UPON_A_CHARGE, Upon, register
from gateway_client.outcome import Answer, Declined, Succeeded
from gateway_client.state import LAWS, diagram
from tests import tipping
from tests.kit import BOUNDS, ONE_SEND, ORDER, World
from tests.tipping import TIP, TipJar

KINDS = ("sync", "sync, postgresql")
FIVE = Money(500, "usd")
TIP_1 = Upon("tip_1", ORDER.intent_id, FIVE)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    register(tipping.TIPPING)
    with World(request.param) as world:
        yield world
    for known in (UPON_A_CHARGE, LAWS, RULES_OF):
        known.pop(TIP)


@pytest.fixture
def jar(world: World) -> TipJar:
    made = TipJar(world)
    world.hooks.append(made)
    return made


def client_of(world: World, *, paid: bool = True) -> Client:
    """A client whose gateway offers tips, and whose order is paid."""
    client = cast("Client", world.open_client(retry=ONE_SEND, stripe=tipping.WithTips))
    if paid:
        assert client.charge(ORDER).state is State.SUCCEEDED
    return client


def tip(client: Client, upon: Upon = TIP_1, attempt: int | None = None) -> Charge:
    return client.run(act_flow(client.setup, TIP, upon, attempt))


def rows(world: World) -> list[tuple[str, ...]]:
    return world.sql("SELECT operation, intent_id, parent_id, state FROM pending_charges ORDER BY operation")


def test_a_tip_is_a_row_beside_its_charge(world: World, jar: TipJar) -> None:
    """An operation upon a charge is written before its call in the same table, under a key of its own name."""
    client = client_of(world)
    made = tip(client)
    assert (made.state, made.operation, made.parent_id, made.provider_charge_id) == (
        State.SUCCEEDED,
        TIP,
        ORDER.intent_id,
        "tip_1",
    )
    assert rows(world) == [("charge", "order_42", None, "succeeded"), ("tip", "tip_1", "order_42", "succeeded")]
    assert jar.posts == [world.binding.key(TIP, "tip_1", 1)] == [made.idempotency_key]
    events = world.sql("SELECT event FROM paycli_events WHERE operation = 'tip' ORDER BY event_no")
    assert events == [("claimed",), ("send begun",), ("succeeded",)]


def test_the_same_reference_of_two_operations(world: World, jar: TipJar) -> None:
    """A tip may have the reference of its order: they are two operations, with two keys, two histories, two leases."""
    client = client_of(world)
    same = replace(TIP_1, intent_id=ORDER.intent_id)
    jar.faults = ["lost_reply"]
    assert tip(client, same).state is State.UNKNOWN
    found = client.find(ORDER.intent_id)
    assert found is not None
    assert (found.operation, found.state) == ("charge", State.SUCCEEDED)
    assert tip(client, same).state is State.SUCCEEDED
    assert (len(jar.tips), world.paid()) == (1, 1)


def test_asked_again(world: World, jar: TipJar) -> None:
    """Asking again with the same reference is one operation; another amount or charge is a conflict, and not sent."""
    client = client_of(world)
    assert tip(client) == tip(client)
    for other in (replace(TIP_1, amount=Money(501, "usd")), replace(TIP_1, parent_id="order_43")):
        with pytest.raises(IntentConflict):
            tip(client, other)
    assert len(jar.posts) == 1


def test_two_references(world: World, jar: TipJar) -> None:
    """Two tips of equal amounts under two references are two."""
    client = client_of(world)
    tip(client)
    tip(client, replace(TIP_1, intent_id="tip_2"))
    assert (len(jar.posts), len(jar.tips)) == (2, 2)


def test_never_more_than_there_is(world: World, jar: TipJar) -> None:
    """What is not possible is refused before a row is written: too much, or upon what has not succeeded."""
    client = client_of(world, paid=False)
    with pytest.raises(NotPossible, match="has not succeeded"):
        tip(client)
    client.charge(ORDER)
    with pytest.raises(NotPossible, match="are tipped already"):
        tip(client, replace(TIP_1, amount=Money(2001, "usd")))
    assert (len(rows(world)), len(jar.posts)) == (1, 0)


def test_at_once_they_never_exceed_it(world: World, jar: TipJar) -> None:
    """Eight threads tip ten times each: what they give together is the charge's amount, and each gets an answer."""
    client_of(world)
    clients = [client_of(world, paid=False) for _ in range(8)]
    told: list[object] = []

    def give(number: int) -> None:
        for count in range(10):
            try:
                told.append(tip(clients[number], replace(TIP_1, intent_id=f"tip_{number}_{count}")).state)
            except NotPossible:
                told.append(NotPossible)

    threads = [threading.Thread(target=give, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(told), told.count(State.SUCCEEDED), told.count(NotPossible)) == (80, 4, 76)
    assert sum(one["amount"] for one in jar.tips.values()) == ORDER.amount.amount


def test_one_reference_upon_two_charges_at_once(world: World, jar: TipJar) -> None:
    """One reference is one act: of those who ask at once upon two charges one side gets it, the other is told."""
    client = client_of(world)
    assert client.charge(replace(ORDER, intent_id="order_2")).state is State.SUCCEEDED
    told: list[str] = []
    together = threading.Barrier(8)

    def give(parent_id: str, client: Client) -> None:
        together.wait(timeout=30)
        try:
            tip(client, Upon("tip_1", parent_id, FIVE))
            told.append(f"given to {parent_id}")
        except Exception as error:
            told.append(f"{type(error).__name__} of {parent_id}")

    clients = [client_of(world, paid=False) for _ in range(8)]
    parents = (ORDER.intent_id, "order_2") * 4
    threads = [threading.Thread(target=give, args=each) for each in zip(parents, clients, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    (winner,) = {row[2] for row in rows(world) if row[0] == TIP}
    (other,) = {ORDER.intent_id, "order_2"} - {winner}
    assert sorted(told) == sorted([f"given to {winner}"] * 4 + [f"IntentConflict of {other}"] * 4)
    assert len(jar.tips) == 1


@pytest.mark.parametrize("fault", ["lost_request", "lost_reply"])
def test_a_worker_finishes_it(world: World, jar: TipJar, fault: str) -> None:
    """An unknown tip is leased and finished by a worker, under the same key, by the evidence of its operation."""
    client = client_of(world)
    jar.faults = [fault]
    assert tip(client).state is State.UNKNOWN
    world.clock.advance(BOUNDS.quiet)
    Worker(client).run(until_idle=True)
    assert rows(world)[1][-1] == "succeeded"
    assert (len(set(jar.posts)), len(jar.tips)) == (1, 1)


def test_resume_finishes_it(world: World, jar: TipJar) -> None:
    """`resume` tells the same story of a tip as of a charge."""
    client = client_of(world)
    jar.faults = ["lost_reply"]
    tip(client)
    assert [(one.operation, one.state) for one in client.resume()] == [(TIP, State.SUCCEEDED)]
    assert len(jar.tips) == 1


def test_absence_is_proven_by_its_own_evidence(world: World, jar: TipJar) -> None:
    """After its key's life, one retrieval that finds nothing, a quiet time after it was closed, proves it absent."""
    client = client_of(world)
    jar.faults = ["lost_request"]
    tip(client)
    world.clock.advance(BOUNDS.key_life)
    assert [one.state for one in client.resume()] == [State.UNKNOWN]
    world.clock.advance(BOUNDS.quiet_unproven)
    assert [one.state for one in client.resume()] == [State.ABSENT]
    with pytest.raises(AttemptRefused):
        tip(client, attempt=2)
    assert len(jar.posts) == 1


def test_its_rules_say_when_another_attempt_may_follow(world: World, jar: TipJar) -> None:
    """A declined tip may be tried again at once, as its rules say; attempt 2 has another key."""
    client = client_of(world)
    jar.faults = ["declined"]
    assert tip(client).state is State.DECLINED
    assert tip(client, attempt=2).state is State.SUCCEEDED
    assert len(set(jar.posts)) == 2


def test_at_rest_is_not_final(world: World, jar: TipJar) -> None:
    """What is at rest is no worker's business, and the provider's word still changes it, as its law says."""
    client = client_of(world)
    made = tip(client)
    assert (made.pending, made.final) == (False, False)
    assert client.resume() == ()
    taken_back = Settle(
        "tip_1", 1, Answer(Declined("taken back", None, "tip_1")), True, operation=TIP, parent_id=ORDER.intent_id
    )
    assert client.perform(taken_back).state is State.DECLINED
    assert "at rest: nothing is to be done now" in diagram(LAWS[TIP])
    assert "at rest" not in diagram()


def test_a_finding_holds_its_own_operation(world: World, jar: TipJar) -> None:
    """A second success of a tip is a finding about the tip: it is named by its operation, and holds the tip alone."""
    client = client_of(world)
    tip(client)
    client.perform(Settle("tip_1", 1, Answer(Succeeded(None, "tip_9")), True, operation=TIP, parent_id=ORDER.intent_id))
    found = world.sql("SELECT code, operation, intent_id FROM paycli_findings")
    assert found == [("duplicate_charge", TIP, "tip_1")]
    assert tip(client, replace(TIP_1, intent_id="tip_2")).state is State.SUCCEEDED


def test_a_finding_of_the_charge_holds_what_acts_upon_it(world: World, jar: TipJar) -> None:
    """While a person must look at a charge, nothing is sent that acts upon it."""
    client = client_of(world)
    world.open_finding(charged=True)
    for _ in range(2):
        with pytest.raises(NeedsPerson, match="order_42 has an open finding finding-order_42"):
            tip(client)
    assert (rows(world)[1][-1], jar.posts) == ("prepared", [])


def test_what_is_not_offered(world: World, jar: TipJar) -> None:
    """A gateway without the operation is refused before a row is written."""
    client = cast("Client", world.open_client())
    client.charge(ORDER)
    with pytest.raises(NotOffered, match="stripe does not offer: tip"):
        tip(client)
    assert (len(rows(world)), jar.posts) == (1, [])


def test_a_row_that_was_changed_is_not_sent(world: World, jar: TipJar) -> None:
    """The gate looks at a tip's row as at a charge's: what was changed by hand is never sent."""
    client = client_of(world)
    jar.faults = ["lost_request"]
    tip(client)
    world.sql("UPDATE pending_charges SET amount = 700 WHERE operation = 'tip'")
    with pytest.raises(IntentConflict):
        tip(client)
    (told,) = client.resume()
    assert (told.state, "changed by hand" in str(told.reason) or "not its row's" in str(told.reason)) == (
        State.UNKNOWN,
        True,
    )
    assert len(jar.posts) == 1
