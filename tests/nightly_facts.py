"""What tests of alerts share: rows and findings planted in a store, and what is said of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import create_engine, event

from gateway_client import State, Stripe
from gateway_client.db import Database
from gateway_client.finding import Code
from reconcile.alerts import Alert, Facts, Limits, alerts
from reconcile.store.alerts import read_facts
from tests.nightly import Night

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
LIMITS = Limits(findings=24 * HOUR, reconciled=26 * HOUR)
KEY_LIFE = Stripe.profile.bounds.key_life
_NEVER = "no reconciliation was ever completed: run `paycli reconcile`, and every night"
NEVER = Alert("not_reconciled", 1, None, None, _NEVER)


def facts_of(world: Night, now: datetime | None = None, limits: Limits = LIMITS) -> tuple[Facts, int]:
    """The facts at a time (None: now) as `paycli alerts` reads them, and how many statements that took."""
    asked: list[object] = []
    at, engine = now or world.clock.now, create_engine(world.url)
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call))
    try:
        facts = Database(engine).transact(lambda tx: read_facts(tx, at, limits, KEY_LIFE), write=False)
    finally:
        engine.dispose()
    return facts, len(asked)


def fired(world: Night, now: datetime | None = None, limits: Limits = LIMITS) -> dict[str, Alert]:
    """What fires, by cause; each cause has one line."""
    found = alerts(facts_of(world, now, limits)[0], limits)
    by_cause = {alert.cause: alert for alert in found}
    assert len(by_cause) == len(found)
    return by_cause


def causes(world: Night, now: datetime | None = None, limits: Limits = LIMITS) -> set[str]:
    """The causes that fire, but for the reconciliation that never was."""
    return set(fired(world, now, limits)) - {"not_reconciled"}


def stored(moment: datetime) -> str:
    """A time as SQLite keeps it."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def plant(world: Night, intent_id: str, state: State, created_at: datetime, **more: datetime | str | None) -> None:
    """A row of attempt 1 as it may be found in a store."""
    row: dict[str, Any] = dict.fromkeys("payment_method body body_sha256 api_version".split(), "")
    row |= {
        "intent_id": intent_id,
        "operation": "charge",
        "attempt": 1,
        "revision": 1,
        "state": state,
        "idempotency_key": f"key of {intent_id}",
    }
    row |= {"amount": 2000, "currency": "usd", "created_at": created_at, **more}
    values = [stored(value) if isinstance(value, datetime) else value for value in row.values()]
    world.sql(f"INSERT INTO pending_charges ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", values)


def plant_finding(world: Night, code: Code, intent_id: str, found_at: datetime, *, charged: bool = False) -> None:
    """An open finding; `charged`: the provider has taken money by it."""
    world.open_finding(intent_id, charged=charged)
    world.sql(
        "UPDATE paycli_findings SET code = ?, id = ?, found_at = ? WHERE intent_id = ? AND code = 'status_mismatch'",
        (code, f"{code}-{intent_id}", stored(found_at), intent_id),
    )
