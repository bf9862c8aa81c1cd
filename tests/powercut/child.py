"""What is recorded: processes that charge, reconcile, or write rows outside the library, above the layer of `layer.c`.

Run as `python -m tests.powercut.child WORK FOLDER URL`. What the caller was told goes into the same log, in order with
the writes: it must never be lost.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, create_engine, event

import reconcile
from gateway_client import Charge, Client, Money, PaymentIntent, StoreUnavailable, Stripe
from tests.kill_child import POLICY

STORE = "store.db"
AT_ONCE = ("order_2", "order_3", "order_4", "order_5", "order_6")
PAID = ("order_1", "order_3", "order_4", "order_5", "order_6")
ORDERS = {name: PaymentIntent(name, Money(1999, "usd"), "pm_card_visa") for name in PAID}
ORDERS["order_2"] = PaymentIntent("order_2", Money(1999, "usd"), "pm_card_chargeDeclined")
WAIT_S_MAX = 30.0
ROWS = 12
ROW = "x" * 1500
HOSTS: dict[str, tuple[str, ...] | None] = {
    "charges": None,
    "charges at once": None,
    "charges NORMAL": ("synchronous = NORMAL",),
    "charges OFF": ("synchronous = OFF",),
    "charges OFF WAL": ("synchronous = OFF", "journal_mode = WAL"),
    "charges checkpointed": ("wal_autocheckpoint = 10",),
}
"""Works that charge: by a URL, or by an engine of the caller's, whose connections begin with these PRAGMAs."""


def record(log: str, kind: str, what: object) -> None:
    """One record of somebody who is not the layer."""
    data = json.dumps(what).encode()
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, f"{kind} 0 {len(data)} -\n".encode() + data)
    finally:
        os.close(handle)


def tell(what: object) -> None:
    """The caller knows this now."""
    record(os.environ["POWERCUT_LOG"], "A", what)


def tell_of(charge: Charge) -> None:
    tell([charge.intent_id, charge.state, charge.provider_charge_id])


def charges(database: str | Engine, url: str) -> None:
    """A new store, three charges, of which one is prepared first; before it the client is closed and another opened."""
    gateway = Stripe("sk_test_sandbox", api_base=url)
    with Client(gateway, database=database, retry=POLICY) as client:
        for name in ("order_1", "order_2"):
            tell_of(client.charge(ORDERS[name]))
    with Client(gateway, database=database, retry=POLICY) as client:
        tell_of(client.prepare(ORDERS["order_3"]))
        tell_of(client.charge(ORDERS["order_3"]))


def charge_and_tell(client: Client, name: str) -> None:
    tell_of(client.charge(ORDERS[name]))


def charges_at_once(database: str, url: str) -> None:
    """A new store and one charge; then five at once, whose claims are one commit."""
    with Client(Stripe("sk_test_sandbox", api_base=url), database=database, retry=POLICY) as client:
        tell_of(client.charge(ORDERS["order_1"]))
        group = client._database.group
        with ThreadPoolExecutor(len(AT_ONCE)) as pool:
            with group.hold():
                ended = [pool.submit(charge_and_tell, client, name) for name in AT_ONCE]
                last = time.monotonic() + WAIT_S_MAX
                while len(group.waiting) < len(AT_ONCE):
                    assert time.monotonic() < last
                    time.sleep(0.002)
            for one in ended:
                one.result(WAIT_S_MAX)


def charges_by_a_host(database: str, url: str, pragmas: tuple[str, ...]) -> None:
    """The same through an engine of the caller's, which wants speed for its own sake."""
    engine = create_engine(database)

    def hurry(connection: Any, *more: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", hurry)
    try:
        charges(engine, url)
    except StoreUnavailable as refused:
        record(os.environ["POWERCUT_LOG"], "R", str(refused))
    engine.dispose()


def night(database: str, url: str) -> None:
    """A reconciliation of yesterday."""
    kept = {"items": 0, "complete": False}

    def on_page(items: int) -> None:
        kept["items"] += items
        tell(kept)

    with Client(Stripe("sk_test_sandbox", api_base=url), database=database, retry=POLICY) as client:
        result = reconcile.run(client, yesterday(), on_progress=on_page)
    tell({"items": kept["items"], "complete": result.complete})


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


def rows(path: str, journal: str, synchronous: str) -> None:
    """Rows, each committed and told of, on a connection that the library has never seen."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(f"PRAGMA journal_mode = {journal}").fetchone() == (journal.lower(),)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("CREATE TABLE told (number INTEGER PRIMARY KEY, filling TEXT)")
        for number in range(1, ROWS + 1):
            connection.execute("INSERT INTO told VALUES (?, ?)", (number, ROW))
            tell(number)


def main() -> None:
    work, folder, url = sys.argv[1:]
    database = f"sqlite:///{folder}/{STORE}"
    if work == "reconciliation":
        night(database, url)
    elif work in HOSTS:
        pragmas = HOSTS[work]
        if work == "charges at once":
            charges_at_once(database, url)
        elif pragmas is None:
            charges(database, url)
        else:
            charges_by_a_host(database, url, pragmas)
    else:
        rows(f"{folder}/{STORE}", *work.split("+"))


if __name__ == "__main__":
    main()
