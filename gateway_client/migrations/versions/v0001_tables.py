"""Version 0001: the tables of charging and of the nightly run.

Written out, not taken from `tables.py`: what a version makes stays the same when the tables change.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None

_LIVE = sa.text("state NOT IN ('declined', 'rejected', 'canceled', 'absent')")
_PENDING = sa.text("state IN ('prepared', 'sending', 'unknown', 'processing', 'requires_action', 'conflict')")
_OF_PENDING = {
    "pending_charges_pending": ["intent_id", "operation", "attempt"],
    "pending_charges_by_age": ["created_at", "intent_id", "operation", "attempt"],
    "pending_charges_due": ["first_sent_at", "created_at", "intent_id", "operation", "attempt"],
}
_UPON = sa.text("parent_id IS NOT NULL")
_OPEN, _AGAIN = sa.text("ended_at IS NULL"), sa.text("send_no > 1")
_KEY = ("intent_id", "operation", "attempt")
_OF_AN_ATTEMPT = (_KEY, [f"pending_charges.{name}" for name in _KEY])


def upgrade(op: Operations) -> None:
    """Make all of it."""
    _store(op)
    _charges(op)
    _sends_and_events(op)
    _findings(op)
    _runs(op)
    _parts(op)
    _listed(op)
    _told_alerts(op)


def _text(name: str, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, _string(), **{"nullable": False, **more})


def _string(length: int | None = None) -> sa.String:
    """Compared byte by byte on PostgreSQL, too, whatever the database's collation is or becomes."""
    return sa.String(length).with_variant(sa.String(length, "C"), "postgresql")


def _number(name: str, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), **{"nullable": False, **more})


def _amount(name: str, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), **{"nullable": False, **more})


def _flag(name: str, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), **{"nullable": False, **more})


def _time(name: str, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), **{"nullable": False, **more})


def _store(op: Operations) -> None:
    op.create_table(
        "paycli_store",
        _number("id", autoincrement=False),  # else PostgreSQL would make a sequence for its one row
        _text("provider"),
        _text("mode"),
        _text("account"),
        _text("namespace"),
        _text("store_id"),
        _time("created_at"),
        _text("bound_by"),
        _text("timeline", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="paycli_store_one_row"),
    )


def _charges(op: Operations) -> None:
    op.create_table(
        "pending_charges",
        sa.Column("intent_id", _string(128), nullable=False),
        _text("operation"),
        _number("attempt"),
        _text("parent_id", nullable=True),
        _number("revision"),
        _text("state"),
        _text("reason", nullable=True),
        _text("idempotency_key"),
        _amount("amount"),
        _text("currency"),
        _text("customer", nullable=True),
        _text("payment_method"),
        _text("body"),
        _text("body_sha256"),
        _text("api_version"),
        _text("seal", nullable=True),
        _text("provider_intent_id", nullable=True),
        _text("provider_charge_id", nullable=True),
        _time("created_at"),
        _time("not_after", nullable=True),
        _time("first_sent_at", nullable=True),
        _time("first_sent_db_at", nullable=True),
        _time("settled_at", nullable=True),
        _time("closed_at", nullable=True),
        _time("quiet_from", nullable=True),
        _text("leased_by", nullable=True),
        _time("leased_until", nullable=True),
        _time("resume_at", nullable=True),
        sa.PrimaryKeyConstraint(*_KEY),
        sa.CheckConstraint("attempt >= 1", name="pending_charges_attempt"),
        sa.CheckConstraint("amount > 0 AND amount = CAST(amount AS BIGINT)", name="pending_charges_amount"),
        sa.CheckConstraint(
            "state IN ('prepared', 'sending', 'unknown', 'processing', 'requires_action', 'conflict', 'succeeded', "
            "'declined', 'rejected', 'canceled', 'absent')",
            name="pending_charges_state",
        ),
        sa.UniqueConstraint("idempotency_key"),
    )
    op.create_index(
        "pending_charges_one_live",
        "pending_charges",
        ["intent_id", "operation"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    for name, columns in _OF_PENDING.items():
        op.create_index(name, "pending_charges", columns, sqlite_where=_PENDING, postgresql_where=_PENDING)
    op.create_index(
        "pending_charges_by_parent", "pending_charges", ["parent_id"], sqlite_where=_UPON, postgresql_where=_UPON
    )
    op.create_index("pending_charges_by_provider_charge", "pending_charges", ["provider_charge_id"])
    op.create_index("pending_charges_by_provider_intent", "pending_charges", ["provider_intent_id"])
    op.create_index("pending_charges_by_first_send", "pending_charges", ["first_sent_at"])
    op.create_index("pending_charges_by_settling", "pending_charges", ["settled_at", "first_sent_at"])


def _sends_and_events(op: Operations) -> None:
    op.create_table(
        "paycli_sends",
        _text("intent_id"),
        _text("operation"),
        _number("attempt"),
        _number("send_no"),
        _text("credential_id"),
        _time("begun_at"),
        _text("actor"),
        _time("ended_at", nullable=True),
        _text("outcome", nullable=True),
        _flag("proven", nullable=True),
        _text("cause", nullable=True),
        _text("reason", nullable=True),
        _text("reply", nullable=True),
        _number("status", nullable=True),
        _text("request_id", nullable=True),
        _text("original_request", nullable=True),
        _flag("replayed", nullable=True),
        _number("elapsed_ms", nullable=True),
        sa.PrimaryKeyConstraint(*_KEY, "send_no"),
        sa.ForeignKeyConstraint(*_OF_AN_ATTEMPT),
    )
    op.create_index("paycli_sends_by_time", "paycli_sends", ["begun_at"])
    op.create_index("paycli_sends_again", "paycli_sends", ["begun_at"], sqlite_where=_AGAIN, postgresql_where=_AGAIN)
    op.create_index(
        "paycli_sends_open",
        "paycli_sends",
        ["intent_id", "operation", "attempt"],
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.create_table(
        "paycli_events",
        _text("intent_id"),
        _text("operation"),
        _number("attempt"),
        _number("event_no"),
        _time("at"),
        _text("event"),
        _text("state_before", nullable=True),
        _text("state_after"),
        _text("reason", nullable=True),
        _text("request_id", nullable=True),
        _text("actor"),
        sa.PrimaryKeyConstraint(*_KEY, "event_no"),
        sa.ForeignKeyConstraint(*_OF_AN_ATTEMPT),
    )


def _findings(op: Operations) -> None:
    op.create_table(
        "paycli_findings",
        _text("id"),
        _text("code"),
        _text("operation"),
        _text("intent_id"),
        _number("attempt"),
        _text("provider_charge_id", nullable=True),
        _text("action"),
        _text("here"),
        _text("there"),
        _text("detail"),
        _flag("charged"),
        _time("found_at"),
        _time("closed_at", nullable=True),
        _text("closed_by", nullable=True),
        _text("because", nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("paycli_findings_open", "paycli_findings", ["closed_at", "code"])
    op.create_index("ix_paycli_findings_intent_id", "paycli_findings", ["intent_id"])


def _runs(op: Operations) -> None:
    op.create_table(
        "paycli_runs",
        _text("run_id"),
        _text("day"),
        _text("tz"),
        _time("window_start"),
        _time("window_end"),
        _time("started_at"),
        _text("begun_by"),
        _text("worked_by"),
        _text("leased_by"),
        _time("leased_until"),
        _number("local_charges"),
        _number("provider_charges"),
        _number("matched"),
        _number("foreign"),
        _time("ended_at", nullable=True),
        _flag("complete"),
        _text("why_incomplete", nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
    )


def _parts(op: Operations) -> None:
    op.create_table(
        "paycli_run_parts",
        _text("run_id"),
        _number("list_no"),
        _number("part_no"),
        _time("part_start"),
        _time("part_end"),
        _number("pages"),
        _text("cursor", nullable=True),
        _flag("done"),
        sa.PrimaryKeyConstraint("run_id", "list_no", "part_no"),
        sa.ForeignKeyConstraint(["run_id"], ["paycli_runs.run_id"]),
    )


def _listed(op: Operations) -> None:
    op.create_table(
        "paycli_run_agreed",
        _text("run_id"),
        _text("object_id"),
        _text("kind"),
        _text("state"),
        sa.PrimaryKeyConstraint("run_id", "object_id"),
        sa.ForeignKeyConstraint(["run_id"], ["paycli_runs.run_id"]),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "paycli_run_items",
        _text("run_id"),
        _text("object_id"),
        _text("kind"),
        _flag("in_window"),
        _time("created_at", nullable=True),
        _text("shows"),
        _text("status"),
        _amount("amount", nullable=True),
        _amount("amount_received", nullable=True),
        _text("currency", nullable=True),
        _flag("live", nullable=True),
        _text("reason", nullable=True),
        _text("provider_intent_id", nullable=True),
        _text("provider_charge_id", nullable=True),
        _text("customer", nullable=True),
        _text("intent_id", nullable=True),
        _number("attempt", nullable=True),
        sa.PrimaryKeyConstraint("run_id", "object_id"),
        sa.ForeignKeyConstraint(["run_id"], ["paycli_runs.run_id"]),
    )
    op.create_index("paycli_run_items_by_attempt", "paycli_run_items", ["run_id", "intent_id", "attempt"])
    op.create_table(
        "paycli_run_unreadable",
        _text("run_id"),
        _text("object_id"),
        _flag("maybe_ours"),
        sa.PrimaryKeyConstraint("run_id", "object_id"),
        sa.ForeignKeyConstraint(["run_id"], ["paycli_runs.run_id"]),
    )
    op.create_table(
        "paycli_run_findings",
        _text("run_id"),
        _text("finding_id"),
        _text("action"),
        _flag("news"),
        sa.PrimaryKeyConstraint("run_id", "finding_id"),
        sa.ForeignKeyConstraint(["run_id"], ["paycli_runs.run_id"]),
        sa.ForeignKeyConstraint(["finding_id"], ["paycli_findings.id"]),
    )


def _told_alerts(op: Operations) -> None:
    op.create_table(
        "paycli_told_alerts",
        _text("receiver"),
        _text("cause"),
        _text("severity"),
        _number("count"),
        _time("since", nullable=True),
        _time("latest", nullable=True),
        _time("told_at"),
        _text("told_by"),
        sa.PrimaryKeyConstraint("receiver", "cause"),
    )
