"""Two big ledgers that agree, written directly and fast, and a handful of each disagreement between them.

The provider's objects go straight onto the sandbox's shelves, our rows straight into the file: no request is made.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from gateway_client import Sandbox, Stripe
from gateway_client.db import Database
from gateway_client.gateways.base import Binding
from gateway_client.sandbox import objects
from gateway_client.sandbox.methods import TEST_METHODS
from gateway_client.sandbox.wire import Json
from tests.nightly import Codes

VISA = TEST_METHODS["pm_card_visa"]
DAY = timedelta(days=1)
WHO = "billing@web-3"


class Mass:
    """A provider and a store about one day, of which nobody knows how it came to be."""

    def __init__(self, sandbox: Sandbox, path: Path, start: datetime, *, turned: bool = False) -> None:
        self.sandbox, self.path, self.start = sandbox, path, start
        self.binding = Binding("stripe", "test", sandbox.account, "default", "the store")
        self.intents, self.charges = sandbox._model.ledger.intents, sandbox._model.ledger.charges
        engine = create_engine(f"sqlite:///{path}")
        Database(engine).create()
        engine.dispose()
        self._make_indexes_again(turned)
        bound = {"id": 1, **asdict(self.binding), "bound_by": WHO, "created_at": stored(start)}
        self._insert("paycli_store", [bound])

    def agree(self, count: int) -> None:
        """So many payments, spread over the day, of which both sides say the same."""
        names = [f"order_{number:06}" for number in range(count)]
        moments = [self.start + number * DAY / max(count, 1) for number in range(count)]
        for name, at in zip(names, moments, strict=True):
            self.provider_has(name, at)
        self.we_have([(name, at) for name, at in zip(names, moments, strict=True)])

    def provider_has(self, name: str, at: datetime, attempt: int = 1, **changes: Any) -> None:
        """A success of an attempt of ours at the provider; `changes` of the intent and its charge alike."""
        created, intent_id, charge_id = int(at.timestamp()), f"pi_{name}_{attempt}", f"ch_{name}_{attempt}"
        intent: Json = objects.payment_intent(intent_id, created, "secret")
        intent |= {"amount": 2000, "amount_received": 2000, "status": "succeeded", "latest_charge": charge_id}
        intent["metadata"] = {
            "paycli_namespace": "default",
            "paycli_intent": name,
            "paycli_attempt": str(attempt),
            "paycli_key": self.binding.key("charge", name, attempt),
        }
        intent |= {field: value for field, value in changes.items() if field in intent}
        charge: Json = objects.charge(charge_id, created, intent, "pm_1", VISA)
        charge |= {"status": "succeeded", "paid": True, "captured": True}
        charge |= {field: value for field, value in changes.items() if field in charge}
        self.intents.add(intent)
        self.charges.add(charge)

    def we_have(self, attempts: Iterable[tuple[str, datetime]], state: str = "succeeded", **changes: Any) -> None:
        """Attempts of ours, each with the one send that settled it; `changes` of the rows."""
        rows: list[dict[str, Any]] = []
        sends: list[dict[str, Any]] = []
        for name, at in attempts:
            moment, known = stored(at), state == "succeeded"
            row = {
                "intent_id": name,
                "operation": "charge",
                "attempt": 1,
                "revision": 1,
                "state": state,
                "amount": 2000,
                "currency": "usd",
            }
            row |= {"idempotency_key": self.binding.key("charge", name, 1), "payment_method": "pm_card_visa"}
            row |= {"body": "", "body_sha256": "", "api_version": objects.API_VERSION}
            row |= {"created_at": moment, "first_sent_at": moment, "settled_at": moment if known else None}
            row |= {"provider_intent_id": f"pi_{name}_1" if known else None}
            row |= {"provider_charge_id": f"ch_{name}_1" if known else None}
            rows.append(row | changes)
            send = {
                "intent_id": name,
                "operation": "charge",
                "attempt": 1,
                "send_no": 1,
                "begun_at": moment,
                "ended_at": moment,
            }
            send |= {"proven": known, "actor": WHO}
            sends.append(send | {"credential_id": Stripe(Sandbox.api_key).credential_id, "outcome": state})
        self._insert("pending_charges", rows)
        self._insert("paycli_sends", sends)

    def disagree(self, times: int = 1) -> tuple[Codes, Codes]:
        """One of each disagreement, `times` over: what a run repairs, and what it flags."""
        repaired, flagged = set(), set()
        noon, before = self.start + DAY / 2, self.start - 2 * DAY
        for number in range(times):
            for code, kind in REPAIRED:
                repaired.add((code, f"{kind}_{number}"))
            for code, kind in FLAGGED:
                flagged.add((code, f"{kind}_{number}"))
            self.provider_has(f"charged_{number}", noon)
            self.we_have([(f"charged_{number}", noon)], "unknown")
            self.provider_has(f"declined_{number}", noon, **DECLINED)
            self.sandbox.change(f"ch_declined_{number}_1", status="failed", failure_code="card_declined")
            self.we_have([(f"declined_{number}", noon)], "unknown")
            self.provider_has(f"debit_{number}", before)
            self.we_have([(f"debit_{number}", before)], "processing", provider_intent_id=f"pi_debit_{number}_1")
            closed = dict.fromkeys(("closed_at", "quiet_from"), stored(before + DAY))
            self.we_have([(f"absent_{number}", before)], "unknown", **closed)
            self._run(f"UPDATE paycli_sends SET outcome = 'refused', proven = 1 WHERE intent_id = 'absent_{number}'")
            self.provider_has(f"imported_{number}", noon)
            self.we_have([(f"gone_{number}", noon)])
            self.provider_has(f"twice_{number}", noon)
            self.provider_has(f"twice_{number}", noon, attempt=2)
            self.provider_has(f"amount_{number}", noon, amount=2100, amount_received=2100)
            self.provider_has(f"currency_{number}", noon, currency="eur")
            self.provider_has(f"status_{number}", noon)
            self.sandbox.change(f"ch_status_{number}_1", status="failed")
            self.we_have([(f"{kind}_{number}", noon) for kind in ("twice", "amount", "currency", "status")])
            self.we_have([(f"stale_{number}", before)], "prepared", first_sent_at=None)
            self.provider_has(f"foreign_{number}", noon, metadata={}, amount=777, amount_received=777)
        self._run("DELETE FROM paycli_sends WHERE intent_id LIKE 'stale%'")
        return repaired, flagged

    def _insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        names = list(rows[0])
        places = ", ".join(f":{name}" for name in names)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", rows)

    def _make_indexes_again(self, turned: bool) -> None:
        """In the order of their names, or the other way round: where two would do, SQLite goes by that order.

        SQLAlchemy makes them in another order in each process.
        """
        made = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
        with closing(sqlite3.connect(self.path)) as connection, connection:
            indexes = connection.execute(made).fetchall()
            for name, statement in reversed(indexes) if turned else indexes:
                connection.execute(f"DROP INDEX {name}")
                connection.execute(statement)

    def _run(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement)


REPAIRED = (*(("outcome_recovered", kind) for kind in ("charged", "declined", "debit", "absent")),)
FLAGGED = (
    ("missing_locally", "imported"),
    *((f"{kind}_mismatch", kind) for kind in ("amount", "currency", "status")),
    ("missing_at_provider", "gone"),
    ("duplicate_charge", "twice"),
    ("stale_pending", "stale"),
)
DECLINED: dict[str, Any] = {
    "status": "requires_payment_method",
    "amount_received": 0,
    "last_payment_error": {"type": "card_error", "code": "card_declined", "decline_code": "generic_decline"},
}


def stored(moment: datetime) -> str:
    """A time as the store keeps it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
