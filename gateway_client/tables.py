"""The SQLModel tables of a store, charging and reconciliation, on a registry and MetaData of their own.

They live in other people's databases, so nothing here touches SQLModel's global metadata, and every table but
`pending_charges` carries our prefix. Statements are made of `columns.py`, which a test compares with these; what is
written, and when, is `store/` and `reconcile/store/`.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, MetaData, String, text
from sqlalchemy.orm import registry
from sqlmodel import AutoString, Field, SQLModel

from gateway_client.columns import UtcDateTime, text_type
from gateway_client.state import PENDING, REFUSED, State


class Base(SQLModel, registry=registry(metadata=MetaData())):
    """The root of our tables."""


def _words(states: tuple[State, ...]) -> str:
    return ", ".join(f"'{state}'" for state in states)


_UPON = text("parent_id IS NOT NULL")


def _of_pending(name: str, *columns: str) -> Index:
    pending = text(f"state IN ({_words(PENDING)})")
    return Index(name, *columns, sqlite_where=pending, postgresql_where=pending)


class Store(Base, table=True):
    """Whom this store belongs to. Exactly one row, written once."""

    __tablename__ = "paycli_store"
    __table_args__ = (CheckConstraint("id = 1", name="paycli_store_one_row"),)

    id: int = Field(default=1, primary_key=True)
    provider: str
    mode: str
    account: str
    namespace: str
    store_id: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    bound_by: str  # who bound it (`actor.py`)
    timeline: str | None = None  # PostgreSQL's, when it was bound: another one is another history


class PendingCharge(Base, table=True):
    """One attempt of an operation, a charge or what acts upon one: written before its first send, never deleted."""

    __tablename__ = "pending_charges"
    __table_args__ = (
        CheckConstraint("attempt >= 1", name="pending_charges_attempt"),
        # SQLite would keep 19.99 in an integer column.
        CheckConstraint("amount > 0 AND amount = CAST(amount AS BIGINT)", name="pending_charges_amount"),
        CheckConstraint(f"state IN ({_words(tuple(State))})", name="pending_charges_state"),
        # At most one attempt of an intent is live or succeeded, whatever else goes wrong.
        Index(
            "pending_charges_one_live",
            "intent_id",
            "operation",
            unique=True,
            sqlite_where=text(f"state NOT IN ({_words(REFUSED)})"),
            postgresql_where=text(f"state NOT IN ({_words(REFUSED)})"),
        ),
        # What is pending is little beside what was settled: a settled row is in none of these.
        _of_pending("pending_charges_pending", "intent_id", "operation", "attempt"),
        _of_pending("pending_charges_by_age", "created_at", "intent_id", "operation", "attempt"),
        _of_pending("pending_charges_due", "first_sent_at", "created_at", "intent_id", "operation", "attempt"),
        # What acts upon a charge is found by it; charges are in no part of this.
        Index("pending_charges_by_parent", "parent_id", sqlite_where=_UPON, postgresql_where=_UPON),
        Index("pending_charges_by_provider_charge", "provider_charge_id"),
        Index("pending_charges_by_provider_intent", "provider_intent_id"),
        Index("pending_charges_by_first_send", "first_sent_at"),
        # The night looks for what was sent before a day and settled since: by the index alone.
        Index("pending_charges_by_settling", "settled_at", "first_sent_at"),
    )

    intent_id: str = Field(primary_key=True, max_length=128)
    operation: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    parent_id: str | None = None  # the intent of the charge that it acts upon; none of a charge
    revision: int = 1  # one more with each write of the row or of its sends; leases do not count
    state: str
    reason: str | None = None
    idempotency_key: str = Field(unique=True)
    amount: int = Field(sa_type=BigInteger)
    currency: str
    customer: str | None = None
    payment_method: str
    body: str
    body_sha256: str
    api_version: str
    seal: str | None = None  # over the columns from intent_id on, under a secret that is not in the database
    provider_intent_id: str | None = None
    provider_charge_id: str | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    not_after: datetime | None = Field(default=None, sa_type=UtcDateTime)  # of its first send
    first_sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    first_sent_db_at: datetime | None = Field(default=None, sa_type=UtcDateTime)  # the same by the database's clock
    settled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # From when no send can have begun, by the provider's time as it was asked for: what quiet times are counted from.
    quiet_from: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # A worker's, by the database's clock: they share the work, and no safety rests on them.
    leased_by: str | None = None
    leased_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    resume_at: datetime | None = Field(default=None, sa_type=UtcDateTime)  # workers leave it alone until then


_OPEN, _AGAIN = text("ended_at IS NULL"), text("send_no > 1")
_KEY = ("intent_id", "operation", "attempt")


def _of_an_attempt() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(_KEY, [f"pending_charges.{name}" for name in _KEY])


class Send(Base, table=True):
    """One HTTP try of an attempt: begun on disk before the first byte; what support asks for when it ended."""

    __tablename__ = "paycli_sends"
    __table_args__ = (
        _of_an_attempt(),
        Index("paycli_sends_by_time", "begun_at"),  # each charge asks for the newest
        # The first send of an attempt tells no more than its row: the night looks for later ones.
        Index("paycli_sends_again", "begun_at", sqlite_where=_AGAIN, postgresql_where=_AGAIN),
        Index("paycli_sends_open", "intent_id", "operation", "attempt", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )

    intent_id: str = Field(primary_key=True)
    operation: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    send_no: int = Field(primary_key=True)
    credential_id: str  # a hash of the API key, never the key
    begun_at: datetime = Field(sa_type=UtcDateTime)
    actor: str  # who began it
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    outcome: str | None = None
    proven: bool | None = None  # the answer is provably the provider's to this send
    cause: str | None = None  # why the sends were paused: the rate, the credential, the account
    reason: str | None = None
    reply: str | None = None  # what kind of reply came: so many server errors, and it is looked up instead
    status: int | None = None  # for people
    request_id: str | None = None
    original_request: str | None = None
    replayed: bool | None = None
    elapsed_ms: int | None = None


class Event(Base, table=True):
    """One change of an attempt's state, in the commit that made it. Append-only."""

    __tablename__ = "paycli_events"
    __table_args__ = (_of_an_attempt(),)

    intent_id: str = Field(primary_key=True)
    operation: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    event_no: int = Field(primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    event: str
    state_before: str | None = None
    state_after: str
    reason: str | None = None
    request_id: str | None = None
    actor: str  # who made it


class Finding(Base, table=True):
    """One disagreement between us and the provider, never deleted. An open one stops the next send, unless harmless."""

    __tablename__ = "paycli_findings"
    __table_args__ = (Index("paycli_findings_open", "closed_at", "code"),)

    id: str = Field(primary_key=True)
    code: str
    operation: str
    intent_id: str = Field(index=True)
    attempt: int
    provider_charge_id: str | None = None
    action: str
    here: str
    there: str
    detail: str
    charged: bool = False  # the provider has taken money by what was found
    found_at: datetime = Field(sa_type=UtcDateTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    closed_by: str | None = None
    because: str | None = None


class Run(Base, table=True):
    """One reconciliation of one window: frozen bounds, how far it has read, who works on it. Immutable once ended."""

    __tablename__ = "paycli_runs"

    run_id: str = Field(primary_key=True)
    day: str
    tz: str
    window_start: datetime = Field(sa_type=UtcDateTime)
    window_end: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime = Field(sa_type=UtcDateTime)
    begun_by: str  # who began it
    worked_by: str  # who works on it, or worked last
    leased_by: str  # whose call that is
    leased_until: datetime = Field(sa_type=UtcDateTime)
    local_charges: int = 0
    provider_charges: int = 0
    matched: int = 0
    foreign: int = 0
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    complete: bool = False
    why_incomplete: str | None = None


class RunPart(Base, table=True):
    """How far a part of a run's window is read in one of the provider's lists. A list of one page is one part."""

    __tablename__ = "paycli_run_parts"

    run_id: str = Field(primary_key=True, foreign_key="paycli_runs.run_id")
    list_no: int = Field(primary_key=True)
    part_no: int = Field(primary_key=True)
    part_start: datetime = Field(sa_type=UtcDateTime)
    part_end: datetime = Field(sa_type=UtcDateTime)
    pages: int
    cursor: str | None = None  # the last object that is on disk
    done: bool  # it was read to its end, or other parts are read in its place


class RunAgreed(Base, table=True):
    """One object that a run has listed and that agrees with its row in all that is judged: only its name is kept."""

    __tablename__ = "paycli_run_agreed"
    __table_args__ = {"sqlite_with_rowid": False}  # its key is most of it: it is not written twice

    run_id: str = Field(primary_key=True, foreign_key="paycli_runs.run_id")
    object_id: str = Field(primary_key=True)
    kind: str
    state: str  # its row's, which it proves


class RunItem(Base, table=True):
    """One object of the provider that a run has listed and must judge, with the attempt of ours that it belongs to."""

    __tablename__ = "paycli_run_items"
    __table_args__ = (Index("paycli_run_items_by_attempt", "run_id", "intent_id", "attempt"),)

    run_id: str = Field(primary_key=True, foreign_key="paycli_runs.run_id")
    object_id: str = Field(primary_key=True)
    kind: str
    in_window: bool  # False: asked for by its id
    created_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    shows: str
    status: str  # the same in the provider's word, for people
    amount: int | None = Field(default=None, sa_type=BigInteger)
    amount_received: int | None = Field(default=None, sa_type=BigInteger)
    currency: str | None = None
    live: bool | None = None
    reason: str | None = None
    provider_intent_id: str | None = None
    provider_charge_id: str | None = None
    customer: str | None = None
    intent_id: str | None = None  # None: foreign
    attempt: int | None = None


class RunUnreadable(Base, table=True):
    """One object that a run has listed and could not read."""

    __tablename__ = "paycli_run_unreadable"

    run_id: str = Field(primary_key=True, foreign_key="paycli_runs.run_id")
    object_id: str = Field(primary_key=True)
    maybe_ours: bool  # then the run is not complete


class RunFinding(Base, table=True):
    """What a run found, and what it did about it."""

    __tablename__ = "paycli_run_findings"

    run_id: str = Field(primary_key=True, foreign_key="paycli_runs.run_id")
    finding_id: str = Field(primary_key=True, foreign_key="paycli_findings.id")
    action: str
    news: bool  # first found, found open again, or repaired by this run


class ToldAlert(Base, table=True):
    """A cause as a receiver of alerts has heard of it last; gone when it was told that it is over."""

    __tablename__ = "paycli_told_alerts"

    receiver: str = Field(primary_key=True)  # a hash of its address, which may hold a secret
    cause: str = Field(primary_key=True)
    severity: str
    count: int
    since: datetime | None = Field(default=None, sa_type=UtcDateTime)  # its oldest row's, and its youngest one's
    latest: datetime | None = Field(default=None, sa_type=UtcDateTime)
    told_at: datetime = Field(sa_type=UtcDateTime)
    told_by: str  # who delivered it


for _column in [column for made in Base.metadata.tables.values() for column in made.columns]:
    if isinstance(_column.type, AutoString):
        _column.type = text_type(cast(String, _column.type.impl).length)
