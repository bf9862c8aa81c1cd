"""What each receiver of alerts was told: read before a delivery, written after it has arrived."""

from __future__ import annotations

import hashlib

from sqlalchemy import bindparam, delete, insert, select

from gateway_client import columns
from gateway_client.transaction import Transaction
from reconcile.told import News, Told

told_alerts = columns.told_alerts

_OF_RECEIVER = told_alerts.c.receiver == bindparam("of_receiver")
_TOLD = select(told_alerts).where(_OF_RECEIVER)
_FORGET = delete(told_alerts).where(_OF_RECEIVER)
_INSERT = insert(told_alerts)


def receiver_of(url: str) -> str:
    """Name a receiver without its address, which may hold a secret."""
    return hashlib.sha256(url.encode()).hexdigest()[:32]


def read_told(tx: Transaction, receiver: str) -> dict[str, Told]:
    """What a receiver was told and was not told to be over, by cause."""
    rows = tx.execute(_TOLD, {"of_receiver": receiver}).mappings()
    return {
        row["cause"]: Told(row["cause"], row["severity"], row["count"], row["since"], row["latest"], row["told_at"])
        for row in rows
    }


def remember(tx: Transaction, receiver: str, news: News) -> None:
    """Keep what a receiver has heard, in place of what it had heard before."""
    of = {"of_receiver": receiver}
    told_by = {(row["cause"], row["told_at"]): row["told_by"] for row in tx.execute(_TOLD, of).mappings()}
    tx.execute(_FORGET, of)
    for told in news.remembered:
        row = {name: getattr(told, name) for name in ("cause", "severity", "count", "since", "latest", "told_at")}
        who = told_by.get((told.cause, told.told_at), tx.actor)  # what is kept was told by another call
        tx.execute(_INSERT, {"receiver": receiver, **row, "told_by": who})
