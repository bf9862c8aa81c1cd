"""A nightly run and whoever else works on the same rows, in every interleaving of their effects.

One of them does some of its effects, the other one all of its own, then the first one the rest: for every point, and
both ways round. Several at once take turns by chance. Who dies on the way: `test_reconcile_kills.py`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from itertools import count
from typing import Any, cast

import pytest

import reconcile
from gateway_client import Client, PaymentIntent, State, UnknownIntent
from gateway_client.errors import ChargeOnceError
from gateway_client.flow.charging import charge_flow
from gateway_client.flow.effects import Effect, Flow
from gateway_client.flow.resuming import resume_flow
from gateway_client.worker import name_of_process
from reconcile.effects import RunLease
from reconcile.flow import reconcile_flow
from tests.kit import USD_20
from tests.nightly import BOUNDS, DATABASES, Night
from tests.nightly_stage import Interrupted, Stage, folder

TODAY = date(2026, 11, 22)
VISA, REFUSED = "pm_card_visa", "pm_card_chargeDeclined"
METHODS = {
    **dict.fromkeys(("absent", "open", "charged", "late", "prepared", "lost"), VISA),
    **dict.fromkeys(("declined", "again", "lost_decline"), REFUSED),
    "pays_now": "pm_usBankAccount_success",
    "fails_now": "pm_usBankAccount_noAccount",
    "acts_now": "pm_usBankAccount_processing",
}
MEANWHILE_S = 30.0  # longer than a bank debit is on its way: what was `processing` has paid or failed

# What every row must come to, whoever works on it, in any order.
END = {
    **dict.fromkeys(("charged", "late", "prepared", "lost", "pays_now", "acts_now"), State.SUCCEEDED),
    **dict.fromkeys(("declined", "again", "lost_decline", "fails_now"), State.DECLINED),
    **dict.fromkeys(("absent", "open"), State.ABSENT),
}
# The only findings that are true of these rows, by attempt. What is repaired is closed; two are two days old.
REPAIRED = {
    *(("outcome_recovered", name, 1) for name in END if name != "again"),
    ("outcome_recovered", "again", 2),
}
OPEN = {
    *(("stale_pending", name, 1) for name in ("absent", "open")),
    *(("missing_locally", name, 1) for name in ("lost", "lost_decline")),
}
SCHEDULES = 12
EVERY = (
    {"sync": 1, "sync, postgresql": 4} if os.environ.get("PAYCLI_TEST_WHOLE") else {"sync": 3, "sync, postgresql": 16}
)


def prepare(night: Night) -> None:
    """A row of each kind that two could work on at once; of two charges the row was lost.

    `absent` was given up long ago: whoever looks first proves it. `open` is closed by whoever comes first.
    """
    night.doubt("absent", "told_429")
    night.doubt("open", "lost_request")
    night.give_up("absent")
    night.clock.advance(hours=47)
    for name in ("again", "lost", "lost_decline"):
        night.pay(name, METHODS[name])
    for name in ("charged", "declined"):
        night.doubt(name, payment_method=METHODS[name])
    night.sandbox.late_s = 3000.0  # after the run, and after what is done meanwhile
    night.doubt("late", "late")
    night.open_client().prepare(PaymentIntent("prepared", USD_20, VISA))
    for table in ("paycli_events", "paycli_sends", "pending_charges"):
        night.sql(f"DELETE FROM {table} WHERE intent_id LIKE 'lost%'")
    night.clock.advance(minutes=20)
    for name in ("pays_now", "fails_now", "acts_now"):
        night.pay(name, METHODS[name])
    night.sandbox.change(night.row("acts_now")["provider_intent_id"], status="requires_action")


@pytest.fixture(scope="module", params=DATABASES)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with folder() as where, Stage(where, prepare, request.param) as made:
        yield made


# What each of them does --------------------------------------------------------------------------------------------


def acts(stage: Stage) -> None:
    """The customer does what the bank asked for."""
    ours = stage.row("acts_now")
    stage.sandbox.change(ours["provider_intent_id"], status="succeeded", amount_received=2000)
    stage.sandbox.change(ours["provider_charge_id"], status="succeeded", captured=True, paid=True)


def charge_each(client: Client) -> None:
    """The callers ask for their charges again; after the refusal of `again` with another card."""
    for name in ("charged", "prepared", "lost", "lost_decline", "fails_now"):
        client.charge(PaymentIntent(name, USD_20, METHODS[name]))
    client.charge(PaymentIntent("again", USD_20, VISA), attempt=2)


def cancel_each(client: Client) -> None:
    for name in ("charged", "absent", "open", "late", "prepared", "lost", "fails_now"):
        with suppress(UnknownIntent):  # its row was lost, and is not imported yet
            client.cancel(name, because="test")


ACTS: dict[str, Callable[[Client], object]] = {
    "reconcile": lambda client: reconcile.run(client, TODAY),
    "reconcile in Berlin": lambda client: reconcile.run(client, TODAY, "Europe/Berlin"),
    "resume": lambda client: client.resume(),
    "charge": charge_each,
    "cancel": cancel_each,
}


def check(stage: Stage, point: object, actors: tuple[str, ...]) -> None:
    """A quiet time later every row has come to its end, once; nothing was charged twice, nothing untrue was found."""
    reading = all("reconcile" in actor for actor in actors)
    posts = [sent for sent in stage.sandbox.requests[stage.asked_before :] if sent.method == "POST"]
    assert (point, posts if reading else []) == (point, [])
    for length in (BOUNDS.quiet, BOUNDS.roll_forward):
        stage.later(length)
        stage.open_client().resume()
    rows = stage.sql("SELECT intent_id, attempt, state FROM pending_charges")
    states = {(name, attempt): State(state) for name, attempt, state in rows}
    expected = {(name, 1): state for name, state in END.items()}
    if "charge" in actors:
        expected["again", 2] = State.SUCCEEDED
    if "cancel" in actors:
        expected["prepared", 1] = State.CANCELED
        # Declined and then cancelled, or cancelled before anybody looked: either way refused.
        expected["fails_now", 1] = State.CANCELED if states["fails_now", 1] is State.CANCELED else State.DECLINED
    assert (point, states) == (point, expected)
    paid = {name: 1 for (name, _), state in expected.items() if state is State.SUCCEEDED}
    assert (point, stage.sandbox.succeeded()) == (point, paid)
    ends = stage.sql(
        "SELECT intent_id, attempt, count(*) FROM paycli_events WHERE coalesce(state_before, '') <> state_after "
        f"AND state_after IN ({', '.join(repr(state.value) for state in State if not state.pending)}) GROUP BY 1, 2"
    )
    assert (point, {(name, attempt): times for name, attempt, times in ends}) == (point, dict.fromkeys(expected, 1))
    found = stage.sql("SELECT code, intent_id, attempt, closed_at IS NULL FROM paycli_findings")
    assert (point, len(found)) == (point, len({(code, name) for code, name, _, _ in found}))
    recovered = stage.sql("SELECT here FROM paycli_findings WHERE code = 'outcome_recovered'")
    assert (point, [here for (here,) in recovered if not State(here.split()[0]).pending]) == (point, [])
    still_open = {(code, name, attempt) for code, name, attempt, is_open in found if is_open}
    closed = {(code, name, attempt) for code, name, attempt, is_open in found if not is_open}
    assert (point, still_open - OPEN) == (point, set())
    assert (point, closed - OPEN - REPAIRED) == (point, set())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("reconcile", "resume"),
        ("reconcile", "charge"),
        ("reconcile", "cancel"),
        ("reconcile", "reconcile in Berlin"),
        ("resume", "reconcile"),
        ("charge", "reconcile"),
        ("cancel", "reconcile"),
    ],
)
def test_every_interleaving(stage: Stage, first: str, second: str) -> None:
    """Both come to the same end in any order: no second charge, and no finding that is not true (F113, F140, S9)."""
    point, points = 0, 1
    while point < points:
        stage.put_up()
        client = cast("Interrupted", stage.open_client(sync=Interrupted))

        def meanwhile() -> None:
            stage.clock.advance(seconds=MEANWHILE_S)
            acts(stage)
            ACTS[second](cast("Client", stage.open_client()))

        client.stops_at, client.meanwhile = point, meanwhile
        ACTS[first](client)
        if client.performed <= point:
            break  # what happened earlier had made it longer; now it ended before this point
        check(stage, point, (first, second))
        point, points = point + EVERY[stage.kind], client.performed
    assert points >= 10


# Several at once ----------------------------------------------------------------------------------------------------


def steps(client: Client, flow: Flow[Any], perform: Callable[[Effect[Any]], Any]) -> Iterator[None]:
    """A flow, driven as a client does, that pauses before each of its effects."""
    step: Callable[[Any], Effect[Any]] = flow.send
    result: Any = None
    while True:
        try:
            effect = step(result)
        except StopIteration:
            return
        yield
        try:
            step, result = flow.send, perform(effect)
        except ChargeOnceError as error:
            step, result = flow.throw, error


def night_steps(client: Client, tz: str) -> Iterator[None]:
    lease = RunLease(name_of_process(), 60.0)
    yield from steps(client, reconcile_flow(client.setup, TODAY, tz, lease), client.perform)


def charging_steps(client: Client) -> Iterator[None]:
    attempts = [(name, method, 1) for name, method in METHODS.items()]
    for name, method, attempt in (*attempts, ("again", VISA, 2)):
        intent = PaymentIntent(name, USD_20, method)
        yield from steps(client, charge_flow(client.setup, intent, attempt), client.perform)


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_four_take_turns(stage: Stage, seed: int) -> None:
    """Two runs of overlapping days, a resume and the callers take turns by chance, and come to that end (F113)."""
    chance = random.Random(seed)
    stage.put_up()
    clients = [cast("Client", stage.open_client()) for _ in range(4)]
    resuming = resume_flow(clients[2].setup, None, lambda charge: None)
    at_work = [
        night_steps(clients[0], "UTC"),
        night_steps(clients[1], "Europe/Berlin"),
        steps(clients[2], resuming, clients[2].perform),
        charging_steps(clients[3]),
    ]
    acts_at = chance.randrange(60)
    for turn in count():
        if not at_work:
            break
        if turn == acts_at:
            acts(stage)
        one = chance.choice(at_work)
        for _ in range(chance.choice((1, 1, 1, 5, 20))):
            if next(one, "ended") == "ended":
                at_work.remove(one)
                break
        stage.clock.advance(seconds=chance.choice((0, 0, 1, 5)))
    if turn <= acts_at:
        acts(stage)
    check(stage, seed, ("reconcile", "reconcile in Berlin", "resume", "charge"))
