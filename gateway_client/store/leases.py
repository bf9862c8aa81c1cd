"""Leases: which worker is at which pending charge. They share the work, and no safety rests on them: the gate decides.

A lease that is over belongs to nobody; a row that was set aside waits for its `resume_at`. One clock judges both; it
may be a host's, so what ends later than any lease or back-off could is of a clock that was ahead, and is over, too.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, exists, func, not_, or_, select, true, update

from gateway_client.charge import HELD_MAX, Charge
from gateway_client.flow.leasing import CountWaiting, Lease, Release, Waiting
from gateway_client.record import Row
from gateway_client.retry import BEGUN_S_MAX
from gateway_client.state import PENDING
from gateway_client.store.registry import performs
from gateway_client.store.rows import charges, constant, sends, snapshots
from gateway_client.transaction import Transaction

_AT: Any = bindparam("clock")
_AHEAD: Any = bindparam("ahead")


def _over(until: Any) -> Any:
    """The rows that nothing keeps until that time.

    "Not later than now, or never": in this form PostgreSQL sees without statistics that it is true of most rows.
    """
    return or_((until > _AT).is_not(true()), (until > _AHEAD).is_(true()))


_OPEN_SEND = exists().where(
    sends.c.intent_id == charges.c.intent_id,
    sends.c.operation == charges.c.operation,
    sends.c.attempt == charges.c.attempt,
    sends.c.ended_at.is_(None),
    sends.c.begun_at > bindparam("open_since"),
)
_DUE = (
    select(charges)
    .where(
        charges.c.state.in_(constant(PENDING)),
        # A worker has one batch in hand: what it still holds when it asks for the next is of a commit that got lost.
        or_(_over(charges.c.leased_until), charges.c.leased_by == bindparam("worker")),
        _over(charges.c.resume_at),
        ~_OPEN_SEND,  # somebody waits for the answer
    )
    # The oldest deadline first: all keys live equally long. What was never sent has none, and waits behind.
    .order_by(
        charges.c.first_sent_at.asc().nulls_last(),
        charges.c.created_at,
        charges.c.intent_id,
        charges.c.operation,
        charges.c.attempt,
    )
    .limit(bindparam("rows_max"))
    .with_for_update(of=charges, skip_locked=True)
)
# A key names one attempt of one operation. One statement, not one for each row: psycopg would send those as a pipeline,
# and warn on stderr when the database asks for the transaction to be done again.
_OF_KEYS = charges.c.idempotency_key.in_(bindparam("of_keys", expanding=True))
_TAKE = update(charges).where(_OF_KEYS)
_GIVE_BACK = (
    update(charges)
    .where(_OF_KEYS, charges.c.leased_by == bindparam("of_worker"))
    .values(leased_by=None, leased_until=None, resume_at=None)
)
_LEASED = not_(_over(charges.c.leased_until))
_BACKED_OFF = and_(not_(_LEASED), not_(_over(charges.c.resume_at)))
_FREE = and_(not_(_LEASED), not_(_BACKED_OFF))
_WAITING = select(
    func.count().filter(_LEASED).label("leased"),
    func.min(charges.c.leased_until).filter(_LEASED).label("leased_first"),
    func.max(charges.c.leased_until).filter(_LEASED).label("leased_last"),
    func.count().filter(_BACKED_OFF).label("backed_off"),
    func.min(charges.c.resume_at).filter(_BACKED_OFF).label("backed_off_first"),
    func.max(charges.c.resume_at).filter(_BACKED_OFF).label("backed_off_last"),
    func.count().filter(_FREE, _OPEN_SEND).label("answers"),
    func.count().filter(_FREE, ~_OPEN_SEND).label("due"),
).where(charges.c.state.in_(constant(PENDING)))
_SET_ASIDE = update(charges).where(
    charges.c.idempotency_key == bindparam("of_key"), charges.c.leased_by == bindparam("of_worker")
)


@performs(Lease)
def lease(tx: Transaction, effect: Lease) -> tuple[Charge, ...]:
    """Take the charges that are due and that no other worker has."""
    clock = tx.clock()
    open_since = tx.now - timedelta(seconds=effect.open_s)
    values = {**_times(clock), "rows_max": effect.rows_max, "worker": effect.worker, "open_since": open_since}
    rows = tx.execute(_DUE, values).mappings().all()
    if rows:
        until = clock + timedelta(seconds=effect.seconds)
        taken = {"of_keys": [row["idempotency_key"] for row in rows], "leased_by": effect.worker, "leased_until": until}
        tx.execute(_TAKE, taken)
    return snapshots(tx, rows)


@performs(Release)
def release(tx: Transaction, effect: Release) -> None:
    """Give back what is still this worker's, each row for now or set aside for a time."""
    clock = tx.clock()
    for key, aside_s in effect.rows:
        if aside_s is not None:
            row = {"of_key": key, "of_worker": effect.worker}
            until = clock + timedelta(seconds=aside_s)
            tx.execute(_SET_ASIDE, row | {"leased_by": None, "leased_until": None, "resume_at": until})
    given = {"of_keys": [key for key, _ in effect.rows], "of_worker": effect.worker}
    tx.execute(_GIVE_BACK, given)


@performs(CountWaiting)
def count_waiting(tx: Transaction, effect: CountWaiting) -> Waiting:
    """Count what is pending by what it waits for: one statement, over the rows of one index."""
    values = {**_times(tx.clock()), "open_since": tx.now - timedelta(seconds=effect.open_s)}
    row = tx.execute(_WAITING, values).mappings().one()
    return Waiting(
        due=row["due"],
        leased=row["leased"],
        leased_until=(row["leased_first"], row["leased_last"]) if row["leased"] else None,
        backed_off=row["backed_off"],
        backed_off_until=(row["backed_off_first"], row["backed_off_last"]) if row["backed_off"] else None,
        answers=row["answers"],
    )


def _times(clock: datetime) -> dict[str, datetime]:
    """What `_over` compares with."""
    return {"clock": clock, "ahead": clock + HELD_MAX}


def holds(row: Row, worker: str, clock: datetime) -> bool:
    """True when the row is the worker's for longer than its send may take to leave."""
    if row["leased_by"] != worker or row["leased_until"] is None:
        return False
    return bool(clock + timedelta(seconds=BEGUN_S_MAX) < row["leased_until"])
