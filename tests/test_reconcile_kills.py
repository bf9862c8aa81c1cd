"""A nightly run dies before every effect and inside every commit, and is run again.

One prepared ledger holds one of every disagreement. The end must be that of a run which nobody disturbed. Real
processes: `test_reconcile_processes.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, event

import reconcile.job
import reconcile.store.findings
import reconcile.store.items
import reconcile.store.repairs
from gateway_client import Money, PaymentIntent
from gateway_client.client import Client
from gateway_client.finding import Code
from gateway_client.flow.effects import Effect
from gateway_client.gateways import stripe_api
from reconcile import RunResult, reading, words
from reconcile.effects import EndRun, OpenRun, RunEffect, SavePages
from tests.kit import USD_20, Killed
from tests.nightly import DATABASES, Night
from tests.nightly_stage import Stage, Tables, folder, timeless

SMALL = (
    (stripe_api, "PAGE_ROWS_MAX", 8),
    (reconcile.store.items, "PAGE_ROWS_MAX", 3),
    (reconcile.store.findings, "PAGE_ROWS_MAX", 1),
    (reconcile.store.repairs, "CLOSED_AT_ONCE_MAX", 1),
)
"""So that a few rows have many pages."""
EVERY = (
    {"sync": 1, "sync, postgresql": 4} if os.environ.get("PAYCLI_TEST_WHOLE") else {"sync": 2, "sync, postgresql": 9}
)

# What one undisturbed run finds and does in the ledger that is prepared below.
REPAIRED = {
    *(("outcome_recovered", name) for name in ("charged", "declined", "old_charged", "old_absent", "debit")),
}
FLAGGED = {
    *(("missing_locally", name) for name in ("imported", "imported_decline")),
    *(("amount_mismatch", name) for name in ("amount", "other_amount")),
    *((f"{name}_mismatch", name) for name in ("currency", "status")),
    ("missing_at_provider", "gone"),
    ("duplicate_charge", "twice"),
    ("stale_pending", "stale"),
    ("stale_pending", "old_open"),  # closed by the run, not proven yet
}


def prepare(night: Night) -> None:
    """One of every disagreement, some of them two days old; it is a little after noon."""
    night.doubt("old_charged")
    night.doubt("old_absent", "told_429")
    night.give_up("old_absent")
    night.doubt("old_open", "lost_request")
    night.doubt("settled_today")
    night.pay("debit", "pm_usBankAccount_success")
    night.open_client().prepare(PaymentIntent("stale", USD_20, "pm_card_visa"))
    night.clock.advance(hours=48)
    night.pay("settled_today")
    for name in ("agreed", "gone", "twice", "amount", "currency", "status"):
        night.pay(name)
    night.open_client().charge(PaymentIntent("stripped", Money(1500, "usd"), "pm_card_visa"))
    night.doubt("charged")
    night.doubt("declined", payment_method="pm_card_chargeDeclined")
    night.doubt("other_amount")
    night.pay_behind_our_back("imported")
    night.pay_behind_our_back("twice", attempt=2)
    night.doubt("imported_decline", payment_method="pm_card_chargeDeclined")
    for table in ("paycli_events", "paycli_sends", "pending_charges"):
        night.sql(f"DELETE FROM {table} WHERE intent_id = 'imported_decline'")
    night.stranger_pays(777)
    for made in (*night.sandbox.charges, *night.sandbox.payment_intents):
        match made["metadata"].get("paycli_intent"):
            case "gone":
                night.sandbox.remove(made["id"])
            case "amount" | "other_amount":
                night.sandbox.change(made["id"], amount=2100)
            case "currency":
                night.sandbox.change(made["id"], currency="eur")
            case "stripped":
                night.sandbox.change(made["id"], metadata={})
    night.change("status", status="failed")
    night.clock.advance(minutes=20)
    known = night.open_client().find("old_charged")
    assert known is not None
    was_stale = words.stale(known)  # found by the night before, and no longer so when this one ends
    night.sql(
        "INSERT INTO paycli_findings "
        "(id, code, operation, intent_id, attempt, action, here, there, detail, charged, found_at) "
        "VALUES (?, ?, 'charge', ?, 1, 'flagged', ?, ?, ?, ?, ?)",
        (
            was_stale.id,
            was_stale.code,
            "old_charged",
            was_stale.here,
            was_stale.there,
            "",
            False,
            "2026-11-21 12:00:00.000000",
        ),
    )


def writes(effect: Effect[Any]) -> bool:
    """Whether an effect of a run is a transaction that is committed."""
    return isinstance(effect, RunEffect) and effect.writes


LISTED = ("paycli_run_agreed", "paycli_run_items")


class Page(NamedTuple):
    """One page of one of the provider's lists."""

    path: str
    after: str | None
    created_from: str
    created_to: str


class Mortal(Stage):
    """A stage on which a life ends at an effect: in its commit when it is a transaction, else before it begins."""

    windows = 1

    def __init__(self, where: Path, kind: str) -> None:
        super().__init__(where, prepare, kind)
        self.performed: list[Effect[Any]] = []
        self.commits = 0
        self._dies_at: int | None = None
        event.listen(self._engine, "commit", self._committing)

    def life(self, dies_at: int | None = None) -> RunResult | None:
        """A new process reconciles today: what it says at its end, or None when it dies on the way."""
        self._dies_at, self.commits = dies_at, 0
        self.performed.clear()
        try:
            return self.run()
        except Killed:
            return None
        finally:
            self._dies_at = None

    def watched(self, effect: Effect[Any], really: Callable[[Effect[Any]], Any]) -> Any:
        if self._dies_at == len(self.performed) and not writes(effect):
            raise Killed
        result = really(effect)
        self.performed.append(effect)
        return result

    def _committing(self, connection: Connection) -> None:
        self.commits += 1
        if self._dies_at == len(self.performed):
            connection.invalidate()  # it dies with its process
            raise Killed

    def pages(self) -> list[Page]:
        """The pages of the window that were asked for, in their order."""
        begins = self.began.replace(hour=0, minute=0).timestamp()
        beyond = (self.began + timedelta(minutes=2)).timestamp()  # where a look-up reads on
        asked = [(sent.path, dict(sent.params)) for sent in self.sandbox.requests]
        return [
            Page(path, of.get("starting_after"), of["created[gte]"], of["created[lte]"])
            for path, of in asked
            if "created[gte]" in of and begins <= int(of["created[gte]"]) and int(of["created[lte]"]) < beyond
        ]


@pytest.fixture(scope="module", params=DATABASES)
def stage(request: pytest.FixtureRequest) -> Iterator[Mortal]:
    with folder() as where, Mortal(where, request.param) as made, pytest.MonkeyPatch.context() as patch:
        for owner, name, value in SMALL:
            patch.setattr(owner, name, value)
        really = Client._perform
        patch.setattr(Client, "_perform", lambda client, one: made.watched(one, partial(really, client)))
        yield made


def test_undisturbed(stage: Mortal) -> None:
    """The ledger that is prepared here holds one of every disagreement, and a run finds exactly these."""
    stage.put_up()
    result = stage.life()
    assert result is not None
    assert {code for code, _ in REPAIRED | FLAGGED} == {*Code}
    assert {(one.code.value, one.intent_id): one.action.value for one in result.findings} == {
        **dict.fromkeys(REPAIRED, "repaired"),
        **dict.fromkeys(FLAGGED, "flagged"),
    }
    assert len(result.findings) == len(REPAIRED | FLAGGED)
    assert (result.provider_charges, result.matched, result.foreign) == (13, 3, 1)
    assert len(stage.pages()) >= 4
    # Each effect that writes is one commit.
    assert stage.commits == sum(map(writes, stage.performed))


@pytest.mark.parametrize("windows", [1, 2])
def test_every_effect(stage: Mortal, windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a run dies, the next one goes on with its window, and ends as if nothing had happened (F08, S18).

    Each part of a list goes on after the last of its pages that was kept; none of these is asked for again.
    """
    monkeypatch.setattr(stage, "windows", windows)
    if windows > 1:
        monkeypatch.setattr(stripe_api, "PAGE_ROWS_MAX", 4)
        monkeypatch.setattr(reading, "PARTS_FOR_EACH", 1)
    stage.put_up()
    undisturbed = stage.life()
    assert undisturbed is not None
    pages, expected = stage.pages(), timeless(stage.tables(), undisturbed.run_id)
    effects = [*stage.performed]
    for point in range(0, len(effects), EVERY[stage.kind]):
        stage.put_up()
        assert stage.life(point) is None
        saved = sum(len(effect.pages) for effect in stage.performed if isinstance(effect, SavePages))
        opened, ended = (any(isinstance(effect, of) for effect in stage.performed) for of in (OpenRun, EndRun))
        asked = len(stage.pages())
        stage.clock.advance(minutes=1)
        stage.outlive_the_lease()
        result = stage.life()
        assert result is not None
        tables = stage.tables()
        first = min(tables["paycli_runs"], key=lambda row: str(row["started_at"]))
        left = timeless(tables, first["run_id"])
        forgotten: Tables = {name: [] for name in LISTED} if ended else {}  # what comes now is another run
        assert (point, left) == (point, {**expected, **forgotten})
        again = 0 if not opened or ended else saved
        gone_on = [page[:2] for page in stage.pages()[asked:]]
        assert (point, len(gone_on)) == (point, len(pages) - again)
        assert windows > 1 or (point, gone_on) == (point, [page[:2] for page in pages[again:]])
        if opened and not ended:
            assert (point, {page[2:] for page in stage.pages()}) == (point, {page[2:] for page in pages})
            figures = ("repaired", "flagged", "matched", "foreign", "provider_charges", "local_charges", "news")
            assert {name: getattr(result, name) for name in figures} == {
                name: getattr(undisturbed, name) for name in figures
            }
            assert result.window_end == undisturbed.window_end
