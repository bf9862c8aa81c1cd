"""Items: what the provider has, page by page, and how it is joined with our rows: by our key, then by its ids."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Select, Update, and_, bindparam, delete, exists, false, func, insert, or_, select, union, update

from gateway_client.charge import Charge
from gateway_client.columns import UtcDateTime
from gateway_client.errors import InvalidInput
from gateway_client.finding import Code
from gateway_client.gateways.base import Binding, Plain, Unreadable
from gateway_client.intent import check_intent_id
from gateway_client.proof import CHARGED, Item, Kind, Shown
from gateway_client.record import Row
from gateway_client.state import CHARGE, PENDING, REFUSED, State
from gateway_client.store.findings import run_findings
from gateway_client.store.registry import performs
from gateway_client.store.rows import IS_CHARGE, charges, constant, findings, snapshots
from gateway_client.transaction import Transaction
from reconcile.effects import Adopt, AttemptKey, KeepItem, ReadPairs, ReadUnfinished, ReadUnseen, SavePages
from reconcile.match import Pair
from reconcile.store.agreed import agreed, agreed_items, forget_seen, keep_agreed, rows_as_stated
from reconcile.store.counts import FIRST_SENT, OF_BEFORE, bounds, items
from reconcile.store.lease import performs_in_run
from reconcile.store.parts import advance_parts, write_parts
from reconcile.store.runs import after_key, cursor
from reconcile.store.sets import among, packed
from reconcile.store.unreadable import save_unreadable

PAGE_ROWS_MAX = 200  # attempts in memory at once

_DELETE_SEEN = delete(items).where(items.c.run_id == bindparam("of_run"), among(items.c.object_id, "of_objects"))
_INSERT = insert(items)


@performs_in_run(SavePages)
def save_pages(tx: Transaction, effect: SavePages) -> None:
    """Keep pages; an object seen before is as it was seen last. How far parts are read is in the same commit."""
    opened = effect.run
    agreeing, others = _sorted_out(tx, effect)
    if agreeing or others:
        seen = packed([*agreeing, *others])
        tx.execute(_DELETE_SEEN, {"of_run": opened.run_id, "of_objects": seen})
        forget_seen(tx, opened.run_id, seen)
        save_unreadable(tx, opened, seen, (one for one in others.values() if isinstance(one, Unreadable)))
    keep_agreed(tx, opened.run_id, agreeing.values())
    rows = [
        _row(opened.run_id, item, _ours(item, opened.binding), in_window=True)
        for item in others.values()
        if isinstance(item, Item)
    ]
    if rows:
        tx.execute(_INSERT, rows)
    advance_parts(tx, opened.run_id, effect.parts)
    write_parts(tx, opened.run_id, effect.cut)


def _sorted_out(tx: Transaction, effect: SavePages) -> tuple[dict[str, Plain], dict[str, Item | Unreadable]]:
    """The objects of pages, each once, by their ids: those that agree with their rows, and all others in our words."""
    plain = [one for page in effect.pages for one in page.plain.values()]
    rows = rows_as_stated(tx, effect.run.binding, plain) if plain else set()
    agreeing: dict[str, Plain] = {}
    others: dict[str, Item | Unreadable] = {}
    for page in effect.pages:
        for place in range(page.count):
            one = page.plain.get(place)
            if one is not None and one.stated in rows:
                others.pop(one.object_id, None)
                agreeing[one.object_id] = one
            else:
                found = page.in_our_words(place)
                agreeing.pop(found.object_id, None)
                before = others.get(found.object_id)
                if not _stays_ours(before, found, effect.run.binding):
                    others[found.object_id] = found
    return agreeing, others


def _stays_ours(before: Item | Unreadable | None, found: Item | Unreadable, binding: Binding) -> bool:
    """Whether of several unreadable objects with one id one was seen before that may be ours: one is enough."""
    both = isinstance(before, Unreadable) and isinstance(found, Unreadable)
    return both and isinstance(before, Unreadable) and before.may_be_of(binding)


def _ours(item: Item, binding: Binding) -> AttemptKey | None:
    """The attempt an object claims to be of: believed only with our namespace and the key that we compute for it."""
    if item.intent_id is None or item.attempt is None or item.namespace != binding.namespace:
        return None
    try:
        check_intent_id(item.intent_id)
    except InvalidInput:
        return None
    of_this_mode = item.live is None or item.live is binding.live
    ours = of_this_mode and item.key == binding.key(CHARGE, item.intent_id, item.attempt)
    return (item.intent_id, item.attempt) if ours else None


def _row(run_id: str, item: Item, ours: AttemptKey | None, *, in_window: bool) -> dict[str, object]:
    intent_id, attempt = ours or (None, None)
    return {
        "run_id": run_id,
        "object_id": item.object_id,
        "kind": item.kind,
        "in_window": in_window,
        "created_at": item.created_at,
        "shows": item.shows,
        "status": item.status,
        "amount": item.amount,
        "amount_received": item.amount_received,
        "currency": item.currency,
        "live": item.live,
        "reason": item.reason,
        "provider_intent_id": item.provider_intent_id,
        "provider_charge_id": item.provider_charge_id,
        "customer": item.customer,
        "intent_id": intent_id,
        "attempt": attempt,
    }


@performs_in_run(KeepItem)
def keep_item(tx: Transaction, effect: KeepItem) -> None:
    """Keep an object that was asked for by its id: it belongs to the attempt that names it."""
    run_id, item = effect.run.run_id, effect.item
    tx.execute(_DELETE_SEEN, {"of_run": run_id, "of_objects": packed([item.object_id])})
    tx.execute(_INSERT, _row(run_id, item, (effect.intent_id, effect.attempt), in_window=False))


def _adopt_by(provider_id: str) -> Update:
    """What nobody claims, for the row of ours that knows this id of it."""
    ours, theirs = charges.c[provider_id], items.c[provider_id]
    first = select(charges.c.idempotency_key).where(ours == theirs, IS_CHARGE).order_by(charges.c.created_at).limit(1)
    one = charges.c.idempotency_key == first.correlate(items).scalar_subquery()
    strange = and_(items.c.run_id == bindparam("of_run"), items.c.intent_id.is_(None), theirs.is_not(None))
    values: dict[Any, Any] = {
        items.c.attempt: select(charges.c.attempt).where(one).scalar_subquery(),
        items.c.intent_id: select(charges.c.intent_id).where(one).scalar_subquery(),
    }
    return update(items).where(strange, exists().where(ours == theirs, IS_CHARGE)).values(values)


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


@performs_in_run(Adopt)
def adopt(tx: Transaction, effect: Adopt) -> None:
    """Objects whose metadata were stripped or edited are ours when a row of ours knows their id."""
    for adoption in _ADOPTIONS:
        tx.execute(adoption, {"of_run": effect.run.run_id})


@cache
def _keys(*, after: bool) -> Select[Any]:
    """The attempts of a page."""
    query = select(items.c.intent_id, items.c.attempt).distinct().where(items.c.run_id == bindparam("of_run"))
    query = query.where(items.c.intent_id.is_not(None)).order_by(items.c.intent_id, items.c.attempt)
    return (query.where(after_key(items)) if after else query).limit(bindparam("rows_max"))


_ROWS_OF_INTENTS = select(charges).where(charges.c.intent_id.in_(bindparam("of_intents", expanding=True)), IS_CHARGE)


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


@performs_in_run(ReadPairs)
def read_pairs(tx: Transaction, effect: ReadPairs) -> tuple[Pair, ...]:
    """The next attempts that do not agree in all that was listed of them, in the order of their ids, with all of it."""
    further = effect.after is not None
    page = {"of_run": effect.run.run_id, **cursor(effect.after)}
    rows_of_keys = tx.execute(_keys(after=further), {**page, "rows_max": PAGE_ROWS_MAX}).mappings()
    keys: list[AttemptKey] = [(row["intent_id"], row["attempt"]) for row in rows_of_keys]
    if not keys:
        return ()
    mine = tx.execute(_ROWS_OF_INTENTS, {"of_intents": list({intent_id for intent_id, _ in keys})})
    rows = {(charge.intent_id, charge.attempt): charge for charge in snapshots(tx, mine.mappings())}
    agreeing = agreed_items(tx, effect.run.run_id, effect.run.binding, rows.values())
    found: dict[AttemptKey, list[Item]] = {key: agreeing.get(key, []) for key in keys}
    last = {"until_intent": keys[-1][0], "until_attempt": keys[-1][1]}
    for row in tx.execute(_items_until(after=further), page | last).mappings():
        found[row["intent_id"], row["attempt"]].append(_item(row))
    return tuple(Pair(*key, rows.get(key), tuple(sorted(found[key], key=_object_id))) for key in keys)


def _object_id(item: Item) -> str:
    return item.object_id


def _item(row: Row) -> Item:
    """An item as far as it was kept: what it claimed has found its attempt, and is not told again."""
    return Item(
        object_id=row["object_id"],
        kind=Kind(row["kind"]),
        created_at=row["created_at"],
        shows=Shown(row["shows"]),
        status=row["status"],
        amount=row["amount"],
        amount_received=row["amount_received"],
        currency=row["currency"],
        live=row["live"],
        reason=row["reason"],
        provider_intent_id=row["provider_intent_id"],
        provider_charge_id=row["provider_charge_id"],
        customer=row["customer"],
        payment_method=None,  # nothing is judged by it here
        named=False,
        namespace=None,
        intent_id=None,
        attempt=None,
        key=None,
    )


@cache
def _unfinished(*, after: bool) -> Select[Any]:
    differ = exists().where(
        run_findings.c.run_id == bindparam("of_run"),
        run_findings.c.finding_id == findings.c.id,
        findings.c.code.in_(constant((Code.AMOUNT_MISMATCH, Code.CURRENCY_MISMATCH))),
        findings.c.intent_id == charges.c.intent_id,
        findings.c.operation == charges.c.operation,
        findings.c.attempt == charges.c.attempt,
    )
    query = (
        select(charges)
        .where(charges.c.state.in_(constant(PENDING)), IS_CHARGE, or_(charges.c.state != State.CONFLICT, ~differ))
        .order_by(charges.c.intent_id, charges.c.attempt)
        .limit(bindparam("rows_max"))
    )
    return query.where(after_key(charges)) if after else query


@performs_in_run(ReadUnfinished)
def read_unfinished(tx: Transaction, effect: ReadUnfinished) -> tuple[Charge, ...]:
    """What is pending, but for conflicts whose numbers were seen to differ in this run: asking settles none."""
    page = {"of_run": effect.run.run_id, "rows_max": PAGE_ROWS_MAX, **cursor(effect.after)}
    return snapshots(tx, tx.execute(_unfinished(after=effect.after is not None), page).mappings())


def _unseen() -> tuple[Select[Any], Select[Any]]:
    """Successes of ours that no list has shown: those first sent in the window, by that time; and others, by key."""
    run_id: Any = bindparam("of_run")
    listed = exists().where(items.c.run_id == run_id, items.c.object_id == charges.c.provider_charge_id)
    agreeing = exists().where(agreed.c.run_id == run_id, agreed.c.object_id == charges.c.provider_charge_id)
    beside = (
        select(charges.c.idempotency_key)
        .select_from(items.join(charges, and_(items.c.intent_id == charges.c.intent_id, IS_CHARGE)))
        .where(
            items.c.run_id == run_id,
            items.c.shows.in_(constant(CHARGED)),
            func.coalesce(items.c.provider_charge_id, "") != charges.c.provider_charge_id,
        )
    )
    unseen = select(charges).where(
        IS_CHARGE, charges.c.state.not_in(constant((*PENDING, *REFUSED))), ~agreeing, ~listed
    )
    others = charges.c.idempotency_key.in_(union(*OF_BEFORE, beside)) & ~func.coalesce(FIRST_SENT, false())
    by_time = unseen.where(FIRST_SENT).order_by(charges.c.first_sent_at, charges.c.intent_id, charges.c.attempt)
    by_key = unseen.where(others).order_by(charges.c.intent_id, charges.c.attempt)
    return by_time.limit(bindparam("rows_max")), by_key.limit(bindparam("rows_max"))


_UNSEEN = _unseen()


@cache
def _unseen_after(*, others: bool, after: bool) -> Select[Any]:
    query = _UNSEEN[others]
    if not after:
        return query
    if others:
        return query.where(after_key(charges))
    first, time = charges.c.first_sent_at, bindparam("after_time", type_=UtcDateTime())
    return query.where(first >= time, or_(first > time, after_key(charges)))


@performs(ReadUnseen)
def read_unseen(tx: Transaction, effect: ReadUnseen) -> tuple[Charge, ...]:
    """Successes of ours whose charge was not listed: they should have been, or another success stands beside them."""
    after = effect.after
    page = {"of_run": effect.run.run_id, "rows_max": PAGE_ROWS_MAX, **bounds(effect.run.window)}
    if after is not None:
        page |= {**cursor((after.intent_id, after.attempt)), "after_time": after.first_sent_at}
    found = tx.execute(_unseen_after(others=effect.others, after=after is not None), page)
    return snapshots(tx, found.mappings())
