"""The columns of our tables by name and type: all that a statement needs of a table, for every statement of ours.

What a table is, with its keys, rules and indexes, is declared in `tables.py` by SQLModel. Importing that, and building
its models, takes longer than all that a command which reads a few rows does besides; only what makes or upgrades tables
needs it. A test compares the two, column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Dialect, Integer, MetaData, String, Table
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC. A naive one is a bug and is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database: SQLite keeps no zone, so it gets none."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def text_type(length: int | None = None) -> TypeEngine[str]:
    """Return the type of our text.

    PostgreSQL compares it byte by byte, too: a collation that changes with the C library would leave the indexes in an
    order in which nothing is found any more. All of it, for columns of two collations cannot be joined.
    """
    return String(length).with_variant(String(length, "C"), "postgresql")


_METADATA = MetaData()
_TYPES: Mapping[str, Callable[[], TypeEngine[Any]]] = {
    "intent": lambda: text_type(128),
    "text": text_type,
    "whole": Integer,
    "big": BigInteger,
    "times": UtcDateTime,
    "flags": Boolean,
}


def _table(name: str, *, defaults: Mapping[str, object] = MappingProxyType({}), **columns: str) -> Table:
    """Name a table's columns, those of a type in one string; `defaults` are for what an INSERT leaves out."""
    return Table(
        name,
        _METADATA,
        *(
            Column(column, _TYPES[kind](), default=defaults.get(column))
            for kind, names in columns.items()
            for column in names.split()
        ),
    )


store = _table(
    "paycli_store",
    whole="id",
    text="provider mode account namespace store_id bound_by timeline",
    times="created_at",
    defaults={"id": 1},
)
charges = _table(
    "pending_charges",
    intent="intent_id",
    whole="attempt revision",
    text="operation parent_id state reason idempotency_key currency customer payment_method body body_sha256 "
    "api_version seal provider_intent_id provider_charge_id leased_by",
    big="amount",
    times="created_at not_after first_sent_at first_sent_db_at settled_at closed_at quiet_from leased_until resume_at",
    defaults={"revision": 1},
)
sends = _table(
    "paycli_sends",
    text="intent_id operation credential_id actor outcome cause reason reply request_id original_request",
    whole="attempt send_no status elapsed_ms",
    times="begun_at ended_at",
    flags="proven replayed",
)
events = _table(
    "paycli_events",
    text="intent_id operation event state_before state_after reason request_id actor",
    whole="attempt event_no",
    times="at",
)
findings = _table(
    "paycli_findings",
    text="id code operation intent_id provider_charge_id action here there detail closed_by because",
    whole="attempt",
    times="found_at closed_at",
    flags="charged",
    defaults={"charged": False},
)
runs = _table(
    "paycli_runs",
    text="run_id day tz begun_by worked_by leased_by why_incomplete",
    times="window_start window_end started_at leased_until ended_at",
    whole="local_charges provider_charges matched foreign",
    flags="complete",
    defaults={
        **dict.fromkeys("local_charges provider_charges matched foreign".split(), 0),
        "complete": False,
    },
)
run_parts = _table(
    "paycli_run_parts",
    text="run_id cursor",
    whole="list_no part_no pages",
    times="part_start part_end",
    flags="done",
)
run_agreed = _table("paycli_run_agreed", text="run_id object_id kind state")
run_items = _table(
    "paycli_run_items",
    text="run_id object_id kind shows status currency reason provider_intent_id provider_charge_id customer intent_id",
    flags="in_window live",
    times="created_at",
    big="amount amount_received",
    whole="attempt",
)
run_unreadable = _table("paycli_run_unreadable", text="run_id object_id", flags="maybe_ours")
run_findings = _table("paycli_run_findings", text="run_id finding_id action", flags="news")
told_alerts = _table(
    "paycli_told_alerts",
    text="receiver cause severity told_by",
    whole="count",
    times="since latest told_at",
)

TABLES = tuple(_METADATA.tables)
"""The names of our tables, but for the one that keeps their version."""
