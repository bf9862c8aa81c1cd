"""Whole nights say the same with the comparison and without it; a field that is not compared is missed.

Made objects of every kind: `test_reconcile_agreed.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import reconcile.store.items
from gateway_client.gateways.base import Stated
from gateway_client.proof import Kind
from reconcile.store.agreed import rows_as_stated
from tests.nightly import DATABASES, Night, codes, night
from tests.nightly_cases import CASES, figures, make_all, told
from tests.nightly_lists import CHARGES, INTENTS
from tests.test_reconcile_cells import THERE, column

Object = dict[str, Any]


class Careless(set[Stated]):
    """Rows of which one field is not compared."""

    def __init__(self, rows: set[Stated], field: str) -> None:
        super().__init__(rows)
        self._field = field

    def __contains__(self, one: object) -> bool:
        assert isinstance(one, Stated)
        return any(row._replace(**{self._field: getattr(one, self._field)}) == one for row in self)


def edited(name: str, value: str) -> Callable[[Night], Object]:
    return lambda dark: {"metadata": {**dark.claims("order_1"), f"paycli_{name}": value}}


FIELDS: dict[str, tuple[str, Callable[[Night], Object]]] = {
    "namespace": (CHARGES, edited("namespace", "shop")),
    "live": (CHARGES, lambda dark: {"livemode": True}),
    "attempt": (CHARGES, edited("attempt", "2")),
    "key": (CHARGES, edited("key", "pc1_" + "a" * 52)),
    "state": (CHARGES, lambda dark: {"status": "failed"}),
    "amount": (CHARGES, lambda dark: {"amount": 1999}),
    "currency": (CHARGES, lambda dark: {"currency": "eur"}),
    "provider_intent_id": (CHARGES, lambda dark: {"payment_intent": "pi_other"}),
    "provider_charge_id": (INTENTS, lambda dark: {"latest_charge": "ch_other"}),
}
"""A field, whose object differs in it alone, and how. By `intent_id` rows are looked up: it cannot be left out."""


def test_every_field_is_tried() -> None:
    """No field that is compared is forgotten here."""
    assert {*FIELDS, "intent_id"} == {*Stated._fields}


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize("field", FIELDS)
def test_each_field_is_compared(field: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that differs in one field does not agree; it would when that field were not compared."""
    path, changes = FIELDS[field]
    with night(kind) as dark:
        dark.pay("order_1")
        row = dark.row("order_1")
        changed = row["provider_intent_id" if path == INTENTS else "provider_charge_id"]
        both = {row["provider_intent_id"], row["provider_charge_id"]}
        dark.run()
        assert agreed(dark) == both
        dark.sandbox.change(changed, **changes(dark))
        dark.run()
        assert agreed(dark) == both - {changed}
        monkeypatch.setattr(reconcile.store.items, "rows_as_stated", lambda *of: Careless(rows_as_stated(*of), field))
        dark.run()
        assert agreed(dark) == both


def agreed(dark: Night) -> set[str]:
    """What agreed in the run that was begun last; the run before is forgotten."""
    assert len(dark.sql("SELECT DISTINCT run_id FROM paycli_run_agreed")) == 1
    return {object_id for (object_id,) in dark.sql("SELECT object_id FROM paycli_run_agreed")}


@pytest.fixture
def nothing_agrees(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether everything is judged, as if nothing could be compared."""

    def choose(judged: bool) -> None:
        found = (lambda *of: set()) if judged else rows_as_stated
        monkeypatch.setattr(reconcile.store.items, "rows_as_stated", found)

    return choose


RUN_ID = re.compile("run_[0-9]{8}_[0-9a-f]{8}")
LEFT = (
    "SELECT intent_id, attempt, state, reason, amount, currency, provider_intent_id, provider_charge_id, settled_at, "
    "closed_at, quiet_from FROM pending_charges ORDER BY intent_id, attempt",
    "SELECT * FROM paycli_events ORDER BY intent_id, attempt, event_no",
    "SELECT * FROM paycli_findings ORDER BY id",
)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_night_says_the_same_when_everything_is_judged(kind: str, nothing_agrees: Callable[[bool], None]) -> None:
    """Every shape that both ledgers can have: findings, figures and rows are those of a run that compares nothing."""
    nights = []
    for judged in (True, False):
        nothing_agrees(judged)
        with night(kind) as dark:
            make_all(dark, {name: CASES[name] for name in CASES})
            result = dark.run()
            left = [RUN_ID.sub("this run", repr(dark.sql(query))) for query in LEFT]
            nights.append((told(result), figures(result), left))
            assert (dark.sql("SELECT count(*) FROM paycli_run_agreed") == [(0,)]) is judged
    assert nights[0] == nights[1]


@pytest.mark.parametrize("there", THERE)
def test_cells_are_the_same_when_everything_is_judged(there: str, nothing_agrees: Callable[[bool], None]) -> None:
    """The table of cells, too."""
    nothing_agrees(True)
    judged = column.__wrapped__(there, "sync")
    nothing_agrees(False)
    assert column.__wrapped__(there, "sync") == judged


@pytest.mark.parametrize("kind", DATABASES)
def test_what_agrees_stands_beside_what_does_not(kind: str) -> None:
    """An intent that was cancelled beside its charge that agrees says nothing: the charge is known to be there."""
    with night(kind) as dark:
        dark.pay("order_1")
        dark.sandbox.change(dark.row("order_1")["provider_intent_id"], status="canceled")
        result = dark.run()
        assert (codes(result), result.matched) == (set(), 1)
        assert [row[2] for row in dark.sql("SELECT * FROM paycli_run_agreed")] == [Kind.CHARGE]


@pytest.mark.parametrize("pages", [1, 2])
@pytest.mark.parametrize("kind", DATABASES)
def test_an_object_that_changes_while_it_is_listed(kind: str, pages: int) -> None:
    """What is listed twice is as it was seen last: it agrees no more, or does by now, and is counted once."""
    with night(kind) as dark:
        dark.pay("order_1")
        versions: tuple[Object, ...] = ({"amount": 1999}, {})
        for order in (versions, versions[::-1]):
            seen = [dark.sandbox.charges[0] | changes for changes in order]

            def listed(request: httpx.Request, seen: list[Object] = seen) -> httpx.Response | None:
                if request.url.path != CHARGES or not seen:
                    return None
                data = [seen.pop(0) for _ in range(len(versions) // pages)]
                body = {"object": "list", "url": CHARGES, "has_more": bool(seen), "data": data}
                return httpx.Response(200, json=body, headers={"Date": "Fri, 20 Nov 2026 12:00:00 GMT"})

            dark.hooks.append(listed)
            result = dark.run()
            dark.hooks.clear()
            differs = order[-1] != {}
            assert (result.provider_charges, result.matched) == (1, int(not differs))
            assert [one.code.value for one in result.findings] == ["amount_mismatch"] * differs


@pytest.mark.parametrize("judged", [True, False])
def test_an_intent_that_agrees_names_a_success(judged: bool, nothing_agrees: Callable[[bool], None]) -> None:
    """Its charge is gone, and another attempt was paid: that is two successes, whether the intent is judged or not."""
    nothing_agrees(judged)
    with night() as dark:
        dark.pay("order_1")
        dark.pay_behind_our_back("order_1", attempt=2)
        dark.sandbox.remove(dark.row("order_1")["provider_charge_id"])
        assert codes(dark.run()) == {("missing_at_provider", "order_1"), ("duplicate_charge", "order_1")}


@pytest.mark.parametrize("judged", [True, False])
def test_a_failed_charge_that_agrees_is_no_success(judged: bool, nothing_agrees: Callable[[bool], None]) -> None:
    """A decline of ours whose intent calls the failed charge a success, beside the success of another attempt."""
    nothing_agrees(judged)
    with night() as dark:
        dark.pay("order_1", "pm_card_chargeDeclined")
        intent = dark.row("order_1")["provider_intent_id"]
        dark.pay("order_1", attempt=2)
        dark.sandbox.change(intent, status="succeeded", amount_received=2000)
        result = dark.run()
        assert codes(result) == {("status_mismatch", "order_1")}
