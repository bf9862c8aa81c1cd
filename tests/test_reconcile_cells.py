"""Every state of ours beside everything the provider may say: our state after the nightly run, and what it finds."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from gateway_client import PaymentIntent, State
from tests.kit import START, USD_20
from tests.nightly import BOUNDS, DATABASES, Night, night

HOURS = 2  # since our send: too old to be answered by its own process, too young for anything else

# What the provider has: fields of its intent and of the charge by it. None: there is none.
OPEN = {"latest_charge": None, "amount_received": 0}
ERROR = {"last_payment_error": {"type": "card_error", "code": "card_declined"}}
FAILED = {"status": "failed", "failure_code": "card_declined", "captured": False, "paid": False}
PENDING = {"status": "pending", "captured": False, "paid": False}
AUTHORIZED = {"captured": False}
VOIDED = {"captured": False, "refunded": True}
EARLIER = {"created": int((START - timedelta(hours=13)).timestamp())}  # made the day before: not listed

Fields = dict[str, Any] | None
THERE: dict[str, tuple[Fields, Fields]] = {
    "nothing": (None, None),
    "nothing, minutes later": (None, None),
    "nothing, days later": (None, None),
    "nothing, closed before": (None, None),  # by an earlier run: a quiet time ago
    "requires_payment_method": ({"status": "requires_payment_method"} | OPEN, None),
    "requires_payment_method, refused": ({"status": "requires_payment_method"} | OPEN | ERROR, None),
    "requires_payment_method, failed": ({"status": "requires_payment_method", "amount_received": 0} | ERROR, FAILED),
    "requires_confirmation": ({"status": "requires_confirmation"} | OPEN, None),
    "requires_action": ({"status": "requires_action"} | OPEN, None),
    "processing": ({"status": "processing", "amount_received": 0}, PENDING),
    "requires_capture": ({"status": "requires_capture", "amount_received": 0}, AUTHORIZED),
    "canceled": ({"status": "canceled"} | OPEN, None),
    "canceled, failed": ({"status": "canceled", "amount_received": 0}, FAILED),
    "canceled, voided": ({"status": "canceled", "amount_received": 0}, VOIDED),
    "succeeded": ({}, {}),
    "unlisted": ({"status": "requires_review"} | OPEN, None),
    "unlisted, pending": ({"status": "requires_review", "amount_received": 0}, PENDING),
    "charge succeeded": (EARLIER, {}),
    "charge failed": ({"status": "requires_payment_method", "amount_received": 0} | ERROR | EARLIER, FAILED),
    "charge pending": ({"status": "processing", "amount_received": 0} | EARLIER, PENDING),
    "charge authorized": ({"status": "requires_capture", "amount_received": 0} | EARLIER, AUTHORIZED),
    "lone charge succeeded": (None, {"payment_intent": None}),
    "lone charge failed": (None, {"payment_intent": None} | FAILED),
    "lone charge pending": (None, {"payment_intent": None} | PENDING),
    "lone charge authorized": (None, {"payment_intent": None} | AUTHORIZED),
}

# Our pending state after the run. "=": as before; "+": and `outcome_recovered`; "stale": and `stale_pending`.
PENDING_CELLS = """
                                    prepared     sending      unknown      processing   requires_action conflict
nothing                           | =            =            =            =            =            =
nothing, minutes later            | =            =            =            =            =            =
nothing, days later               | =stale       =stale       =stale       =            =stale       =stale
nothing, closed before            | =stale       absent+      absent+      =stale       =stale       absent+
requires_payment_method           | unknown      unknown      =            =            =            =
requires_payment_method, refused  | declined+    declined+    declined+    declined+    declined+    declined+
requires_payment_method, failed   | declined+    declined+    declined+    declined+    declined+    declined+
requires_confirmation             | unknown      unknown      =            =            =            =
requires_action                   | asks+        asks+        asks+        asks+        =            asks+
processing                        | processing+  processing+  processing+  =            processing+  processing+
requires_capture                  | processing+  processing+  processing+  =            processing+  processing+
canceled                          | canceled+    canceled+    canceled+    canceled+    canceled+    canceled+
canceled, failed                  | canceled+    canceled+    canceled+    canceled+    canceled+    canceled+
canceled, voided                  | canceled+    canceled+    canceled+    canceled+    canceled+    canceled+
succeeded                         | succeeded+   succeeded+   succeeded+   succeeded+   succeeded+   succeeded+
unlisted                          | unknown      unknown      =            =            =            =
unlisted, pending                 | processing+  processing+  processing+  =            =            processing+
charge succeeded                  | succeeded+   succeeded+   succeeded+   succeeded+   succeeded+   succeeded+
charge failed                     | declined+    declined+    declined+    declined+    declined+    declined+
charge pending                    | processing+  processing+  processing+  =            processing+  processing+
charge authorized                 | processing+  processing+  processing+  =            processing+  processing+
lone charge succeeded             | succeeded+   succeeded+   succeeded+   succeeded+   succeeded+   succeeded+
lone charge failed                | declined+    declined+    declined+    declined+    declined+    declined+
lone charge pending               | processing+  processing+  processing+  =            processing+  processing+
lone charge authorized            | processing+  processing+  processing+  =            processing+  processing+
"""

# A final state never changes. "status": `status_mismatch`; "missing": `missing_at_provider`.
FINAL_CELLS = """
                                    succeeded       declined  rejected  canceled  absent
nothing                           | missing         =         =         =         =
nothing, minutes later            | missing         =         =         =         =
nothing, days later               | missing         =         =         =         =
nothing, closed before            | missing         =         =         =         =
requires_payment_method           | missing         =         =         =         =
requires_payment_method, refused  | missing,status  =         =         =         status
requires_payment_method, failed   | status          =         =         =         status
requires_confirmation             | missing         =         =         =         =
requires_action                   | missing         =         =         =         status
processing                        | status          status    status    status    status
requires_capture                  | status          status    status    status    status
canceled                          | missing,status  =         =         =         =
canceled, failed                  | status          =         =         =         =
canceled, voided                  | status          =         =         =         =
succeeded                         | =               status    status    status    status
unlisted                          | missing         =         =         =         =
unlisted, pending                 | status          status    status    status    status
charge succeeded                  | =               status    status    status    status
charge failed                     | status          =         =         =         status
charge pending                    | status          status    status    status    status
charge authorized                 | status          status    status    status    status
lone charge succeeded             | =               status    status    status    status
lone charge failed                | status          =         =         =         status
lone charge pending               | status          status    status    status    status
lone charge authorized            | status          status    status    status    status
"""

WORDS = {"asks": "requires_action", "status": "status_mismatch", "missing": "missing_at_provider"}


@dataclass(frozen=True)
class Cell:
    """What became of one state beside one answer."""

    after: str
    codes: frozenset[str]


def cells(table: str) -> Iterator[tuple[str, str, Cell]]:
    """(what the provider has, our state before, what is expected) for each cell of a table."""
    head, *rows = table.strip().splitlines()
    for row in rows:
        there, _, found = row.partition("|")
        for before, word in zip(head.split(), found.split(), strict=True):
            yield there.strip(), before, expected(before, word)


def expected(before: str, word: str) -> Cell:
    if not State(before).pending:
        return Cell(before, frozenset() if word == "=" else frozenset(WORDS[one] for one in word.split(",")))
    after = word.removesuffix("+").removesuffix("stale").replace("=", before)
    codes = {"outcome_recovered": word.endswith("+"), "stale_pending": word.endswith("stale")}
    return Cell(WORDS.get(after, after), frozenset(code for code, wanted in codes.items() if wanted))


CELLS = {(there, before): cell for table in (PENDING_CELLS, FINAL_CELLS) for there, before, cell in cells(table)}


# A real row of each state ----------------------------------------------------------------------------------------

SENT = {"sending": None, "rejected": "rejected", "absent": "unknown"}
"""How the only send of a state ended (None: it is open); else the state is its outcome, too."""

KNOWS_THEM = ("processing", "requires_action", "succeeded", "declined", "canceled")
"""States that are not reached without the provider's ids."""


def make(dark: Night, state: str, there: str) -> None:
    """An intent that is named after our state of it, sent just now, and what the provider has of it."""
    dark.open_client().prepare(PaymentIntent(state, USD_20, "pm_card_visa"))
    dark.pay_behind_our_back(state)
    charge, intent = dark.sandbox.charges[0], dark.sandbox.payment_intents[0]
    ids = {"provider_intent_id": intent["id"], "provider_charge_id": charge["id"]}
    for found, fields in zip((intent, charge), THERE[there], strict=True):
        if fields is None:
            dark.sandbox.remove(found["id"])
        else:
            dark.sandbox.change(found["id"], **fields)
    if there.startswith("lone"):
        ids["provider_intent_id"] = None
    if THERE[there][1] is None and state != "succeeded":
        ids["provider_charge_id"] = None
    sent_at = dark.clock.now.strftime("%Y-%m-%d %H:%M:%S.%f")
    changes = {"state": state}
    if state != "prepared":
        send(dark, state, sent_at)
        changes |= {"first_sent_at": sent_at}
    if state in KNOWS_THEM:
        changes |= ids
    if not State(state).pending:
        changes |= {"settled_at": sent_at, "closed_at": sent_at}
    columns = ", ".join(f"{name} = ?" for name in changes)
    dark.sql(f"UPDATE pending_charges SET {columns} WHERE intent_id = ?", (*changes.values(), state))


def send(dark: Night, state: str, sent_at: str) -> None:
    outcome = SENT.get(state, state)
    ended_at = None if outcome is None else sent_at
    dark.sql(
        "INSERT INTO paycli_sends "
        "(intent_id, operation, attempt, send_no, credential_id, begun_at, ended_at, outcome, actor) "
        "VALUES (?, 'charge', 1, 1, 'one', ?, ?, ?, 'billing@web-3')",
        (state, sent_at, ended_at, outcome),
    )


# The runs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """Two runs over rows of all states beside the same answer."""

    cells: dict[str, Cell]
    counts: tuple[int, int]  # charges listed; matched, foreign or named by a finding
    complete: bool
    posted: list[str]
    news: int  # of the second run
    changed: list[str]  # tables that the second run changed


@functools.cache
def column(there: str, kind: str) -> Column:
    with night(kind) as dark:
        for state in State:
            make(dark, state.value, there)
        day, asked = dark.today, len(dark.asked)
        dark.clock.advance(
            hours={"minutes": 0.1, "days": 96, "closed": 96}.get(there.removeprefix("nothing, ").split(" ")[0], HOURS)
        )
        if there == "nothing, closed before":
            dark.run(day)
            dark.later(BOUNDS.quiet_unproven)
        result = dark.run(day)
        after = {state.value: dark.state(state.value).value for state in State}
        kept = dark.dump()
        again = dark.run(day)
        tables = ("pending_charges", "paycli_sends", "paycli_events", "paycli_findings")
        named = {one.provider_charge_id for one in result.findings if one.code != "stale_pending"}
        listed = {charge["id"] for charge in dark.sandbox.charges}
        return Column(
            {
                name: Cell(state, frozenset(one.code.value for one in result.findings if one.intent_id == name))
                for name, state in after.items()
            },
            (len(listed), result.matched + result.foreign + len(named & listed)),
            result.complete and again.complete,
            [one for one in dark.asked[asked:] if not one.startswith("GET ")],
            again.news,
            [name for name, rows in dark.dump().items() if name in tables and rows != kept[name]],
        )


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("there", THERE)
def test_cells(there: str, kind: str) -> None:
    """Our state moves by the provider's evidence or stays, and what contradicts a final one is found (S7, S8, S17)."""
    expected = {before: cell for (answer, before), cell in CELLS.items() if answer == there}
    assert column(there, kind).cells == expected


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("there", THERE)
def test_runs(there: str, kind: str) -> None:
    """Whatever the provider has: nothing is sent, each charge is counted once, a second run changes nothing (F142)."""
    done = column(there, kind)
    listed, counted = done.counts
    assert (done.complete, done.posted, counted) == (True, [], listed)
    assert (done.news, done.changed) == (0, [])


def test_every_cell_is_there() -> None:
    """The tables leave out no state and no answer."""
    assert set(CELLS) == {(there, state.value) for there in THERE for state in State}


NAMELESS = {
    "canceled": {"status_mismatch"},
    "processing": {"status_mismatch"},
    "succeeded": set(),
    "gone": {"missing_at_provider"},
}


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("status", NAMELESS)
def test_success_without_a_charge(status: str, kind: str) -> None:
    """A success whose charge was never named is asked for by its intent, and what contradicts it is of the run."""
    with night(kind) as dark:
        charge = dark.pay("a")
        assert charge.provider_intent_id is not None
        dark.sql("UPDATE pending_charges SET provider_charge_id = NULL")
        dark.sandbox.remove(str(charge.provider_charge_id))
        if status == "gone":
            dark.sandbox.remove(charge.provider_intent_id)
        else:
            dark.sandbox.change(charge.provider_intent_id, status=status, **EARLIER)
        result = dark.run()
        assert (result.complete, {one.code.value for one in result.findings}) == (True, NAMELESS[status])
        assert result.open_findings == len(NAMELESS[status])
