"""Pending rows of any age: looked up by every run, settled by evidence, absent only by proof, never sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from gateway_client import State
from gateway_client.tables import Base
from tests.kit import START
from tests.nightly import BOUNDS, DATABASES, Night, codes, night
from tests.nightly_rows import (
    ACCOUNT,
    CHARGES,
    CLEAN,
    DEBIT,
    DECLINED,
    INTENTS,
    ORDER,
    came_to,
    recovered,
    run,
    stale,
    yesterday,
)

ABSENT = State.ABSENT
PROVEN = (ABSENT, State.SUCCEEDED)
WEEK_H = 7 * 24.0 + 1  # longer than any state may last


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        made.made_at = START - timedelta(days=400)
        yield made


# What the provider has of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "method", "end"),
    [
        ("lost_reply", "pm_card_visa", State.SUCCEEDED),
        ("lost_reply", DECLINED, State.DECLINED),
        ("lost_reply", DEBIT, State.PROCESSING),
        ("error_500_charged", "pm_card_visa", State.SUCCEEDED),
        ("error_500_later", "pm_card_visa", State.SUCCEEDED),
        ("late", "pm_card_visa", State.SUCCEEDED),
        ("html_body", DECLINED, State.DECLINED),
        ("lost_request", "pm_card_visa", State.ABSENT),
        ("unavailable_503", "pm_card_visa", State.ABSENT),
        ("error_500", "pm_card_visa", State.ABSENT),
    ],
)
def test_unknown_since_last_week(world: Night, fault: str, method: str, end: State) -> None:
    """A charge in doubt since last week is looked up tonight, far behind tonight's window, and settled (F127, L1).

    What nobody has closed before is closed tonight: its absence is proven by the first run a quiet time later.
    """
    world.doubt("order_1", fault, method)
    charged = end is State.SUCCEEDED
    world.clock.advance(hours=WEEK_H)
    if end is ABSENT:
        assert (came_to(yesterday(world)), world.state("order_1")) == (stale("order_1"), State.UNKNOWN)
        world.later(BOUNDS.quiet_unproven)
    result = yesterday(world)
    left = stale("order_1")[1] if end is State.PROCESSING else set()
    assert (came_to(result), world.state("order_1")) == ((True, recovered("order_1")[1] | left), end)
    assert (result.provider_charges, result.local_charges, world.paid("order_1")) == (0, 0, int(charged))
    assert came_to(yesterday(world)) == (True, left)


def test_found_with_other_numbers(world: Night) -> None:
    """A charge of last week that the provider has with another amount is no success: a conflict, for a person (F56)."""
    world.doubt("order_1")
    for made in (*world.sandbox.charges, *world.sandbox.payment_intents):
        world.sandbox.change(made["id"], amount=1999)
    world.clock.advance(hours=WEEK_H)
    complete, found = stale("order_1")
    expected = (complete, found | {("amount_mismatch", "order_1")})
    assert (came_to(yesterday(world)), world.state("order_1")) == (expected, State.CONFLICT)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("processing", State.PROCESSING),
        ("requires_action", State.REQUIRES_ACTION),
        ("requires_capture", State.PROCESSING),
        ("succeeded", State.SUCCEEDED),
        ("canceled", State.CANCELED),
        ("requires_confirmation", State.PROCESSING),
        ("something_new", State.PROCESSING),
    ],
)
def test_intent_that_is_known(world: Night, status: str, end: State) -> None:
    """A pending charge whose intent is known is asked for by its id, however old, and nothing else is (F57, F60)."""
    world.pay("order_1", DEBIT)
    intent, charge = (world.row("order_1")[f"provider_{name}_id"] for name in ("intent", "charge"))
    world.sandbox.change(intent, status=status, amount_received=2000 * (status == "succeeded"))
    world.clock.advance(hours=WEEK_H)
    before = len(world.asked)
    result = yesterday(world)
    asked = [
        INTENTS,
        CHARGES,
        ACCOUNT,
        f"{INTENTS}/{intent}",
        *([ACCOUNT] if status == "requires_confirmation" else []),  # from when on it may be cancelled there
        *([f"{CHARGES}/{charge}"] if end is State.SUCCEEDED else []),
    ]
    assert world.asked[before + 1 :] == [f"GET {path}" for path in asked]
    assert (result.complete, world.state("order_1")) == (True, end)
    assert codes(result) - recovered("order_1")[1] == (set() if not end.pending else stale("order_1")[1])


# Left alone ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, 23, 25, WEEK_H])
def test_prepared_is_never_charged(world: Night, hours: float) -> None:
    """A charge that was only prepared is never sent by a run; after a day it is flagged as stale (S2)."""
    world.open_client().prepare(ORDER)
    before = world.row("order_1")
    world.clock.advance(hours=hours)
    for result in (run(world), yesterday(world)):
        assert came_to(result) == (CLEAN if hours < 24 else stale("order_1"))
    assert (world.row("order_1"), world.sends, world.sandbox.charges) == (before, [], ())


def test_prepared_and_charged_by_an_older_store(world: Night) -> None:
    """A prepared row whose charge the provider has anyway (a restored store) is believed, and not charged (F103)."""
    world.open_client().prepare(ORDER)
    world.pay_behind_our_back("order_1")
    assert (came_to(run(world)), world.state("order_1")) == (recovered("order_1"), State.SUCCEEDED)
    assert world.open_client().charge(ORDER).sends == 0
    assert world.paid("order_1") == 1


@pytest.mark.parametrize(("minutes", "looked_up"), [(0, False), (14, False), (15, True), (60, True)])
def test_sent_just_now_is_left_to_its_process(world: Night, minutes: float, *, looked_up: bool) -> None:
    """A send of the last quarter of an hour may still be answered: nobody looks it up behind its back (F113)."""
    world.doubt("order_1", "lost_request")
    world.clock.advance(minutes=minutes)
    before, row = len(world.asked), world.row("order_1")
    assert came_to(run(world)) == CLEAN
    lists = [f"GET {INTENTS}", f"GET {CHARGES}"]
    time = [f"GET {ACCOUNT}"]  # of the provider: before anything is concluded, and before each reading
    assert world.asked[before + 1 :] == (lists + time + time + lists if looked_up else lists + time)
    assert (world.row("order_1") == row) is not looked_up


# Many ----------------------------------------------------------------------------------------------------------------


def test_many_rows_of_different_ages(world: Night) -> None:
    """Two hundred and fifty pending rows of six weeks are all looked up by one run, each judged by itself (L1)."""
    world.doubt("order_1", "lost_request")
    ends = {f"order_{number}": State.SUCCEEDED if number % 2 else ABSENT for number in range(2, 245)}
    ends |= {"order_1": ABSENT} | {f"order_{number}": State.UNKNOWN for number in range(245, 251)}  # the last day
    tables = {"pending_charges": [world.row("order_1")], "paycli_sends": list(rows_of(world, "paycli_sends"))}
    for number in range(2, 251):
        world.clock.advance(hours=4)
        new = {"intent_id": f"order_{number}", "idempotency_key": world.binding.key("charge", f"order_{number}", 1)}
        now = world.clock.now.replace(tzinfo=None).isoformat(" ", "microseconds")
        new |= dict.fromkeys(("created_at", "first_sent_at", "begun_at", "ended_at"), now)
        for rows in tables.values():
            rows.append({name: new.get(name, value) for name, value in rows[0].items()})
        if ends[f"order_{number}"] is State.SUCCEEDED:
            world.pay_behind_our_back(f"order_{number}")
    for table, rows in tables.items():
        values = [f"({', '.join('?' * len(rows[0]))})"] * (len(rows) - 1)
        flat = [value for row in rows[1:] for value in row.values()]
        world.sql(f"INSERT INTO {table} VALUES {', '.join(values)}", flat)
    absent, succeeded = (recovered(*(name for name, end in ends.items() if end is which))[1] for which in PROVEN)
    # Closed by the first run, like some others; order_244 is a day old to the second, and no longer.
    old = stale(*(name for name, end in ends.items() if end is ABSENT and name != "order_244"))[1]
    last_day = stale(*(f"order_{number}" for number in range(245, 251)))[1]  # closed by the second run
    for found in (succeeded | old, absent | last_day):
        before = len(world.asked)
        assert came_to(run(world, START.date())) == (True, found)
        lists = [asked for asked in world.asked[before:] if asked in (f"GET {INTENTS}", f"GET {CHARGES}")]
        assert len(lists) == 2 + 2 * 2, "one reading of the lists, of two pages each, serves them all"
        world.later(BOUNDS.quiet_unproven)
    assert {row["intent_id"]: State(row["state"]) for row in rows_of(world, "pending_charges")} == ends


def rows_of(world: Night, table: str) -> Iterator[dict[str, Any]]:
    names = Base.metadata.tables[table].columns.keys()
    return (dict(zip(names, row, strict=True)) for row in world.sql(f"SELECT * FROM {table}"))


def test_one_intent_that_cannot_be_asked_for(world: Night) -> None:
    """An intent that the provider fails on every night makes the run incomplete, and holds up no other row (F147)."""
    world.pay("poison", DEBIT)
    intent = world.row("poison")["provider_intent_id"]
    world.clock.advance(seconds=1)
    world.doubt("doubt")
    world.doubt("lost", "lost_request")
    world.give_up("lost")
    world.pay("debit", "pm_usBankAccount_success")
    world.clock.advance(hours=WEEK_H)
    world.answer(500, on=("GET", f"{INTENTS}/{intent}"), times=99)
    result = yesterday(world)
    assert (result.complete, (result.why_incomplete or "")[: len(intent) + 7]) == (False, f"intent {intent}")
    ends = {name: world.state(name) for name in ("doubt", "lost", "debit", "poison")}
    assert ends == {"doubt": State.SUCCEEDED, "lost": ABSENT, "debit": State.SUCCEEDED, "poison": State.PROCESSING}


def test_provider_that_stops_answering(world: Night) -> None:
    """A provider that answers nothing any more is not asked for each of many charges: the run ends soon (L4)."""
    asked = []
    for number in range(8):
        intent = world.pay(f"order_{number}", DEBIT).provider_intent_id
        asked.append(world.answer(503, on=("GET", f"{INTENTS}/{intent}"), times=99))
    assert (run(world).complete, sum(map(bool, asked)) <= 3) == (False, True)
