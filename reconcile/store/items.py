"""Items: what the provider has, page by page, and how it is joined with our rows: by our key, then by its ids."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, Update, and_, bindparam, delete, exists, func, insert, or_, select, union, update
from sqlalchemy.orm import Session

from gateway_client.charge import Charge
from gateway_client.errors import InvalidInput
from gateway_client.finding import Code
from gateway_client.gateways.base import Binding, Item, Kind
from gateway_client.intent import check_intent_id
from gateway_client.record import Row
from gateway_client.state import PENDING, REFUSED, State
from gateway_client.store.findings import run_findings
from gateway_client.store.rows import charges, constant, findings, run, snapshots
from reconcile.effects import Adopt, AttemptKey, KeepItem, ReadPairs, ReadUnfinished, ReadUnseen, SavePage
from reconcile.match import Pair
from reconcile.store.runs import OF_WINDOW, UPDATE_RUN, after_key, bounds, cursor, items
from reconcile.store.unreadable import save_unreadable

PAGE_ROWS_MAX = 200  # attempts in memory at once

_DELETE_SEEN = delete(items).where(
    items.c.run_id == bindparam("of_run"), items.c.object_id.in_(bindparam("of_objects", expanding=True))
)
_INSERT = insert(items)


def save_page(session: Session, effect: SavePage, now: datetime) -> None:
    """Keep a page; an object seen before is replaced by what was seen last. The cursor is in the same commit."""
    opened = effect.run
    rows = {
        item.object_id: _row(opened.run_id, item, _ours(item, opened.binding), in_window=True) for item in effect.items
    }
    if rows:
        run(session, _DELETE_SEEN, {"of_run": opened.run_id, "of_objects": list(rows)})
        session.connection().execute(_INSERT, list(rows.values()))
    save_unreadable(session, effect)
    reached = {"lists_read": effect.lists_read, "cursor": effect.cursor}
    run(session, UPDATE_RUN, {"of_run": opened.run_id, **reached})


def _ours(item: Item, binding: Binding) -> AttemptKey | None:
    """The attempt an object claims to be of: believed only with our namespace and the key that we compute for it."""
    if item.intent_id is None or item.attempt is None or item.namespace != binding.namespace:
        return None
    try:
        check_intent_id(item.intent_id)
    except InvalidInput:
        return None
    of_this_mode = item.live is None or item.live is (binding.mode == "live")
    ours = of_this_mode and item.key == binding.key("charge", item.intent_id, item.attempt)
    return (item.intent_id, item.attempt) if ours else None


def _row(run_id: str, item: Item, ours: AttemptKey | None, *, in_window: bool) -> dict[str, object]:
    intent_id, attempt = ours or (None, None)
    return {
        "run_id": run_id,
        "object_id": item.object_id,
        "kind": item.kind,
        "in_window": in_window,
        "created_at": item.created_at,
        "status": item.status,
        "amount": item.amount,
        "amount_received": item.amount_received,
        "currency": item.currency,
        "live": item.live,
        "captured": item.captured,
        "moved": item.moved,
        "reason": item.reason,
        "provider_intent_id": item.provider_intent_id,
        "provider_charge_id": item.provider_charge_id,
        "customer": item.customer,
        "intent_id": intent_id,
        "attempt": attempt,
    }


def keep_item(session: Session, effect: KeepItem, now: datetime) -> None:
    """Keep an object that was asked for by its id: it belongs to the attempt that names it."""
    run_id, item = effect.run.run_id, effect.item
    run(session, _DELETE_SEEN, {"of_run": run_id, "of_objects": [item.object_id]})
    run(session, _INSERT, _row(run_id, item, (effect.intent_id, effect.attempt), in_window=False))


def _adopt_by(provider_id: str) -> Update:
    """What nobody claims, for the row of ours that knows this id of it."""
    ours, theirs = charges.c[provider_id], items.c[provider_id]
    first = select(charges.c.idempotency_key).where(ours == theirs).order_by(charges.c.created_at).limit(1)
    one = charges.c.idempotency_key == first.correlate(items).scalar_subquery()
    strange = and_(items.c.run_id == bindparam("of_run"), items.c.intent_id.is_(None), theirs.is_not(None))
    values: dict[Any, Any] = {
        items.c.attempt: select(charges.c.attempt).where(one).scalar_subquery(),
        items.c.intent_id: select(charges.c.intent_id).where(one).scalar_subquery(),
    }
    return update(items).where(strange, exists().where(ours == theirs)).values(values)


def _adopt_by_intent() -> Update:
    """A charge also belongs where its intent does, whoever of the two still carries our metadata."""
    intents = items.alias()
    of_charge = and_(
        intents.c.run_id == bindparam("of_run"),
        intents.c.object_id == items.c.provider_intent_id,
        intents.c.intent_id.is_not(None),
    )
    strange = and_(items.c.run_id == bindparam("of_run"), items.c.intent_id.is_(None), items.c.kind == Kind.CHARGE)
    values = {name: select(intents.c[name]).where(of_charge).scalar_subquery() for name in ("attempt", "intent_id")}
    return update(items).where(strange, exists().where(of_charge)).values(values)


_ADOPTIONS = (_adopt_by("provider_charge_id"), _adopt_by("provider_intent_id"), _adopt_by_intent())


def adopt(session: Session, effect: Adopt, now: datetime) -> None:
    """Objects whose metadata were stripped or edited are ours when a row of ours knows their id."""
    for adoption in _ADOPTIONS:
        run(session, adoption, {"of_run": effect.run.run_id})


@cache
def _keys(*, after: bool) -> Select[Any]:
    """The attempts of a page."""
    query = select(items.c.intent_id, items.c.attempt).distinct().where(items.c.run_id == bindparam("of_run"))
    query = query.where(items.c.intent_id.is_not(None)).order_by(items.c.intent_id, items.c.attempt)
    return (query.where(after_key(items)) if after else query).limit(bindparam("rows_max"))


_ROWS_OF_INTENTS = select(charges).where(charges.c.intent_id.in_(bindparam("of_intents", expanding=True)))


@cache
def _items_until(*, after: bool) -> Select[Any]:
    """All items of the attempts up to the last one of a page."""
    intent_id: Any = bindparam("until_intent")
    attempt: Any = bindparam("until_attempt")
    query = select(items).where(
        items.c.run_id == bindparam("of_run"),
        items.c.intent_id.is_not(None),
        items.c.intent_id <= intent_id,
        or_(items.c.intent_id < intent_id, items.c.attempt <= attempt),
    )
    return (query.where(after_key(items)) if after else query).order_by(items.c.object_id)


def read_pairs(session: Session, effect: ReadPairs, now: datetime) -> tuple[Pair, ...]:
    """The next attempts that the provider has something of, in the order of their ids."""
    further = effect.after is not None
    page = {"of_run": effect.run.run_id, **cursor(effect.after)}
    rows_of_keys = run(session, _keys(after=further), {**page, "rows_max": PAGE_ROWS_MAX}).mappings()
    keys: list[AttemptKey] = [(row["intent_id"], row["attempt"]) for row in rows_of_keys]
    if not keys:
        return ()
    mine = run(session, _ROWS_OF_INTENTS, {"of_intents": list({intent_id for intent_id, _ in keys})})
    rows = {(charge.intent_id, charge.attempt): charge for charge in snapshots(session, mine.mappings())}
    found: dict[AttemptKey, list[Item]] = {key: [] for key in keys}
    last = {"until_intent": keys[-1][0], "until_attempt": keys[-1][1]}
    for row in run(session, _items_until(after=further), page | last).mappings():
        key = (row["intent_id"], row["attempt"])
        charge = rows.get(key)
        found[key].append(_item(row, effect.run.binding, charge))
    return tuple(Pair(*key, rows.get(key), tuple(found[key])) for key in keys)


def _item(row: Row, binding: Binding, charge: Charge | None) -> Item:
    """An item as it was read, under the key of the attempt that it was matched with."""
    intent_id, attempt = row["intent_id"], row["attempt"]
    return Item(
        object_id=row["object_id"],
        kind=Kind(row["kind"]),
        created_at=row["created_at"],
        status=row["status"],
        amount=row["amount"],
        amount_received=row["amount_received"],
        currency=row["currency"],
        live=row["live"],
        captured=row["captured"],
        moved=row["moved"],
        reason=row["reason"],
        provider_intent_id=row["provider_intent_id"],
        provider_charge_id=row["provider_charge_id"],
        customer=row["customer"],
        payment_method=None,  # nothing is judged by it here
        named=True,
        namespace=binding.namespace,
        intent_id=intent_id,
        attempt=attempt,
        key=binding.key("charge", intent_id, attempt) if charge is None else charge.idempotency_key,
    )


@cache
def _unfinished(*, after: bool) -> Select[Any]:
    differ = exists().where(
        run_findings.c.run_id == bindparam("of_run"),
        run_findings.c.finding_id == findings.c.id,
        findings.c.code.in_(constant((Code.AMOUNT_MISMATCH, Code.CURRENCY_MISMATCH))),
        findings.c.intent_id == charges.c.intent_id,
        findings.c.attempt == charges.c.attempt,
    )
    query = (
        select(charges)
        .where(charges.c.state.in_(constant(PENDING)), or_(charges.c.state != State.CONFLICT, ~differ))
        .order_by(charges.c.intent_id, charges.c.attempt)
        .limit(bindparam("rows_max"))
    )
    return query.where(after_key(charges)) if after else query


def read_unfinished(session: Session, effect: ReadUnfinished, now: datetime) -> tuple[Charge, ...]:
    """What is pending, but for conflicts whose numbers were seen to differ in this run: asking settles none."""
    page = {"of_run": effect.run.run_id, "rows_max": PAGE_ROWS_MAX, **cursor(effect.after)}
    return snapshots(session, run(session, _unfinished(after=effect.after is not None), page).mappings())


@cache
def _unseen(*, after: bool) -> Select[Any]:
    run_id: Any = bindparam("of_run")
    of_intent = items.c.intent_id == charges.c.intent_id
    listed = exists().where(items.c.run_id == run_id, items.c.object_id == charges.c.provider_charge_id)
    beside = (
        select(charges.c.idempotency_key)
        .select_from(items.join(charges, of_intent))
        .where(
            items.c.run_id == run_id,
            items.c.status == "succeeded",
            func.coalesce(items.c.provider_charge_id, "") != charges.c.provider_charge_id,
        )
    )
    expected = union(*OF_WINDOW, beside)
    query = (
        select(charges)
        .where(charges.c.idempotency_key.in_(expected), charges.c.state.not_in(constant((*PENDING, *REFUSED))), ~listed)
        .order_by(charges.c.intent_id, charges.c.attempt)
        .limit(bindparam("rows_max"))
    )
    return query.where(after_key(charges)) if after else query


def read_unseen(session: Session, effect: ReadUnseen, now: datetime) -> tuple[Charge, ...]:
    """Successes of ours whose charge was not listed: they should have been, or another success stands beside them."""
    page = {"of_run": effect.run.run_id, "rows_max": PAGE_ROWS_MAX, **cursor(effect.after)}
    page |= bounds(effect.run.window)
    return snapshots(session, run(session, _unseen(after=effect.after is not None), page).mappings())
