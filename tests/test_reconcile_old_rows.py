"""Pending rows of any age: looked up by every run, settled by evidence, absent only by proof, never sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from gateway_client import AttemptRefused, NeedsPerson, PaymentIntent, State
from gateway_client.tables import Base
from reconcile import RunResult
from tests.kit import ONE_SEND, START, USD_20
from tests.nightly import DATABASES, Codes, Night, codes, night

INTENTS, CHARGES = "/v1/payment_intents", "/v1/charges"
ABSENT = State.ABSENT
DEBIT, DECLINED = "pm_usBankAccount_processing", "pm_card_chargeDeclined"
WEEK_H = 7 * 24.0
ORDER = PaymentIntent("order_1", USD_20, "pm_card_visa")


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest) -> Iterator[Night]:
    with night(request.param) as made:
        yield made


def run(world: Night, day: date | None = None) -> RunResult:
    """A run, which asks and never sends: nothing is charged or cancelled by it, whatever else is tested."""
    before = len(world.asked)
    result = world.run(day)
    assert {asked.partition(" ")[0] for asked in world.asked[before:]} == {"GET"}
    return result


def yesterday(world: Night) -> RunResult:
    """Tonight's run."""
    return run(world, (world.clock.now - timedelta(days=1)).date())


def came_to(result: RunResult) -> tuple[bool, Codes]:
    return result.complete, codes(result)


def recovered(*intents: str) -> tuple[bool, Codes]:
    """A complete run that found out what became of these, and nothing else."""
    return True, {("outcome_recovered", intent) for intent in intents}


CLEAN = recovered()


def stale(*intents: str) -> tuple[bool, Codes]:
    return True, {("stale_pending", intent) for intent in intents}


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
    """A charge in doubt since last week is looked up tonight, far behind tonight's window, and settled (F127, L1)."""
    world.doubt("order_1", fault, method)
    charged = end is State.SUCCEEDED
    world.clock.advance(hours=WEEK_H)
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
    asked = [INTENTS, CHARGES, f"{INTENTS}/{intent}", *([f"{CHARGES}/{charge}"] if end is State.SUCCEEDED else [])]
    assert world.asked[before + 1 :] == [f"GET {path}" for path in asked]
    assert (result.complete, world.state("order_1")) == (True, end)
    assert codes(result) - recovered("order_1")[1] == (set() if end.final else stale("order_1")[1])


# Absence, by the four conditions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "hours", "state"),
    [
        ("lost_request", 22.9, State.UNKNOWN),
        ("lost_request", 23, ABSENT),
        ("lost_request", 25, ABSENT),
        ("unavailable_503", 25, State.UNKNOWN),
        ("unavailable_503", 72, ABSENT),
        ("error_500", 71.9, State.UNKNOWN),
        ("error_500", 100, ABSENT),
    ],
)
def test_absence_takes_its_time(world: Night, fault: str, hours: float, state: State) -> None:
    """What was never executed is absent when its key's life is over, after any 5xx not before 72 h (S16, F37)."""
    world.doubt("order_1", fault)
    world.clock.advance(hours=hours)
    result = run(world)
    expected = recovered("order_1") if state is ABSENT else CLEAN if hours < 24 else stale("order_1")
    assert (came_to(result), world.state("order_1"), world.paid("order_1")) == (expected, state, 0)
    assert (world.row("order_1")["closed_at"] is not None) is (hours >= 23)
    world.clock.advance(hours=100)
    assert (came_to(run(world)), world.state("order_1")) == (
        CLEAN if state is ABSENT else recovered("order_1"),
        ABSENT,
    )


@pytest.mark.parametrize(("minutes", "state"), [(59, State.UNKNOWN), (60, ABSENT)])
def test_given_up_by_a_person(world: Night, minutes: float, state: State) -> None:
    """A charge that was given up is absent an hour after its last send, not before (S16)."""
    world.doubt("order_1", "lost_request")
    world.open_client().cancel("order_1", because="the customer left")
    world.clock.advance(minutes=minutes)
    assert (run(world).complete, world.state("order_1")) == (True, state)


@pytest.mark.parametrize(
    ("amount", "currency", "metadata", "absent"),
    [
        (2000, "usd", {}, False),
        (2001, "usd", {}, True),
        (2000, "eur", {}, True),
        (2000, "usd", {"paycli_namespace": "other"}, True),
    ],
)
def test_success_of_a_stranger(
    world: Night, amount: int, currency: str, metadata: dict[str, str], *, absent: bool
) -> None:
    """A success of that amount that carries no names of ours may be it: not absent, a person looks (F136, S8)."""
    world.doubt("order_1", "lost_request")
    world.stranger_pays(amount, currency, metadata)
    world.clock.advance(hours=100)
    result = yesterday(world)
    assert came_to(result) == (recovered("order_1") if absent else stale("order_1"))
    assert world.state("order_1") is (ABSENT if absent else State.UNKNOWN)
    assert ("a person looks" in result.findings[0].detail) is not absent


@pytest.mark.parametrize("path", [INTENTS, CHARGES])
def test_incomplete_list(world: Night, path: str) -> None:
    """While a list cannot be read to its end nothing is absent, however old (F122, S16)."""
    world.doubt("order_1", "lost_request")
    world.clock.advance(hours=100)

    def hook(request: httpx.Request) -> httpx.Response | None:
        of_the_window = int(request.url.params.get("created[gte]", 0)) % (24 * 3600) == 0
        return httpx.Response(500) if request.url.path == path and not of_the_window else None

    world.hooks.append(hook)
    result = yesterday(world)
    assert (came_to(result), world.state("order_1")) == ((False, stale("order_1")[1]), State.UNKNOWN)
    assert "could not be read to the end" in world.row("order_1")["reason"]
    world.hooks.clear()
    again = yesterday(world)
    assert (again.complete, again.run_id, world.state("order_1")) == (True, result.run_id, ABSENT)
    assert (again.flagged, again.open_findings) == (0, 0), "what was stale is no finding any more"


@pytest.mark.parametrize("by", ["run", "resume"])
@pytest.mark.parametrize("fault", ["lost_request", "error_500"])
def test_attempt_2_after_proof(world: Night, by: str, fault: str) -> None:
    """After absence is proven by a run, attempt 2 may follow exactly when it may after `resume` (S6)."""
    world.doubt("order_1", fault)
    client = world.open_client()
    for hours in (25, 46.9):
        world.clock.advance(hours=hours)
        run(world) if by == "run" else client.resume()
        assert world.state("order_1") is (ABSENT if fault == "lost_request" else State.UNKNOWN)
        with pytest.raises((AttemptRefused, NeedsPerson)):
            client.charge(ORDER, attempt=2)
    world.clock.advance(hours=0.2)  # 72 h: the answer that was never seen may have been a 500
    run(world) if by == "run" else client.resume()
    assert client.charge(ORDER, attempt=2).state is State.SUCCEEDED
    assert world.paid("order_1") == 1


BEGINNINGS: dict[str, Callable[[Night], object]] = {
    "charged": lambda world: world.doubt("order_1"),
    "declined": lambda world: world.doubt("order_1", "lost_reply", DECLINED),
    "never executed": lambda world: world.doubt("order_1", "lost_request"),
    "saved 500": lambda world: world.doubt("order_1", "error_500"),
    "saved 500, charged later": lambda world: world.doubt("order_1", "error_500_later"),
    "debit that arrives": lambda world: world.pay("order_1", "pm_usBankAccount_success"),
    "debit that comes back": lambda world: world.pay("order_1", "pm_usBankAccount_noAccount"),
    "debit on its way": lambda world: world.pay("order_1", DEBIT),
}


@pytest.mark.parametrize(
    ("kind", "hours"), [*((kind, 100) for kind in BEGINNINGS), ("never executed", 25), ("saved 500", 25)]
)
def test_run_and_resume_agree(kind: str, hours: float) -> None:
    """A run and `resume` conclude the same from the same evidence; whoever is second finds nothing to do (F113)."""
    concluded = []
    for run_first in (True, False):
        with night() as world:
            BEGINNINGS[kind](world)
            world.clock.advance(hours=hours)
            resume = world.open_client(retry=ONE_SEND).resume
            yesterday(world) if run_first else resume()
            row = world.row("order_1")
            resume() if run_first else yesterday(world)
            assert world.row("order_1") == row
            concluded.append((row["state"], row["reason"], row["provider_charge_id"], world.paid("order_1")))
    assert concluded[0] == concluded[1]


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
    assert world.asked[before + 1 :] == (lists + lists if looked_up else lists)
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
    before = len(world.asked)
    result = run(world, START.date())
    assert {row["intent_id"]: State(row["state"]) for row in rows_of(world, "pending_charges")} == ends
    assert came_to(result) == recovered(*(intent_id for intent_id, end in ends.items() if end.final))
    lists = [asked for asked in world.asked[before:] if asked in (f"GET {INTENTS}", f"GET {CHARGES}")]
    assert len(lists) == 2 + 2 * 2, "one reading of the lists, of two pages each, serves them all"


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
