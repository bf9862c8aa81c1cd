"""Reconcile one planted night in a measured process: with this library, by a naive loop on the SDK, or not at all.

"Not at all" fetches the same lists and decodes them, and nothing else: no reconciler can be faster than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from benchmarks.provider import API_KEY
from benchmarks.usage import cpu_s, peak_bytes

DAY_S = 86400
Job = dict[str, Any]


class Listed(msgspec.Struct):
    """The fields of a listed object that any reconciler needs."""

    id: str
    status: str
    created: int
    amount: int
    currency: str
    metadata: dict[str, str]


class Page(msgspec.Struct):
    """One page of a list."""

    data: list[Listed]
    has_more: bool


def perform(job: Job) -> dict[str, Any]:
    """Do one run and return its seconds, processor seconds, memory, and what it failed to see."""
    work = RUNS[job["who"]]
    before, begun, used = peak_bytes(), time.perf_counter(), cpu_s()
    failed = work(job)
    return {
        "elapsed_s": time.perf_counter() - begun,
        "cpu_s": cpu_s() - used,
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "failed": failed,
    }


def run_ours(job: Job) -> dict[str, int]:
    """Reconcile with this library; a night that agrees must be complete, all matched, nothing flagged."""
    import reconcile
    from gateway_client import Client, Stripe

    with Client(Stripe(API_KEY, api_base=job["provider"]), database=job["database"]) as client:
        # The rate limit is the provider's to want: what is measured here is what a run costs, not how long it waits.
        result = reconcile.run(client, date.fromisoformat(job["day"]), rate=10_000)
    found = (result.complete, result.matched, result.flagged, result.repaired)
    return {} if found == (True, job["count"], 0, 0) else {f"complete, matched, flagged, repaired: {found}": 1}


def run_naive(job: Job) -> dict[str, int]:
    """Reconcile as a first version does: page through the SDK, look each charge up, then look for rows not seen."""
    from sqlmodel import Session, col, select

    from benchmarks.peers import Payment, durable_engine, sdk

    start = _start(job)
    window: Any = {"created": {"gte": int(start.timestamp()), "lt": int(start.timestamp()) + DAY_S}, "limit": 100}
    engine, seen, wrong = durable_engine(job["database"]), set[str](), 0
    with Session(engine) as session:
        for charge in sdk(job["provider"]).v1.charges.list(window).auto_paging_iter():
            key = charge.metadata["paycli_key"]
            row = session.exec(select(Payment).where(Payment.idempotency_key == key)).first()
            if row is None or (row.amount, row.currency, row.status) != (charge.amount, charge.currency, charge.status):
                wrong += 1
            else:
                seen.add(row.id)
        of_day = select(Payment).where(
            col(Payment.created_at) >= start, col(Payment.created_at) < start + timedelta(days=1)
        )
        wrong += sum(row.id not in seen for row in session.exec(of_day))
    engine.dispose()
    return {} if (wrong, len(seen)) == (0, job["count"]) else {f"{wrong} wrong, {len(seen)} seen": 1}


def run_fetch(job: Job) -> dict[str, int]:
    """Fetch and decode both lists over one connection."""
    import httpx

    start, count = int(_start(job).timestamp()), 0
    with httpx.Client(base_url=job["provider"], headers={"Authorization": f"Bearer {API_KEY}"}) as client:
        for path in ("/v1/payment_intents", "/v1/charges"):
            query: dict[str, str | int] = {"created[gte]": start, "created[lt]": start + DAY_S, "limit": 100}
            while True:
                page = msgspec.json.decode(client.get(path, params=query).content, type=Page)
                count += len(page.data)
                if not page.has_more:
                    break
                query["starting_after"] = page.data[-1].id
    return {} if count == 2 * job["count"] else {f"{count} objects": 1}


def plant_payments(database: str, facts: Iterable[Any]) -> None:
    """Fill the naive reconciler's table with the same charges."""
    from sqlalchemy import insert
    from sqlmodel import SQLModel

    from benchmarks.peers import Payment, durable_engine

    def rows() -> Iterator[dict[str, Any]]:
        for fact in facts:
            yield {
                "id": fact.name,
                "idempotency_key": fact.key,
                "amount": fact.amount,
                "currency": "usd",
                "status": "succeeded",
                "provider_id": fact.charge_id,
                "created_at": fact.created,
                "updated_at": fact.created,
            }

    engine = durable_engine(database)
    SQLModel.metadata.create_all(engine)
    with engine.begin() as connection:
        chunk = []
        for row in rows():
            chunk.append(row)
            if len(chunk) == 5000:
                connection.execute(insert(Payment), chunk)
                chunk = []
        if chunk:
            connection.execute(insert(Payment), chunk)
    engine.dispose()


def _start(job: Job) -> datetime:
    return datetime.fromisoformat(job["day"]).replace(tzinfo=UTC)


RUNS: dict[str, Callable[[Job], dict[str, int]]] = {"ours": run_ours, "naive": run_naive, "fetch": run_fetch}
