"""What agrees with its row in all that is judged: told by comparing sets, kept by its name alone, never made an object.

A page is compared with the rows that it names: one statement reads them, as tuples, and what is equal agrees. The
judgement (`match.py`) has nothing to say of it, by itself or beside whatever else is listed of its attempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, literal_column, select

from gateway_client import columns
from gateway_client.charge import Charge
from gateway_client.gateways.base import Binding, Plain, Stated
from gateway_client.proof import Item, Kind
from gateway_client.state import State
from gateway_client.store.rows import IS_CHARGE, charges
from gateway_client.transaction import Transaction
from reconcile.effects import AttemptKey
from reconcile.store.sets import among, each, packed

agreed = columns.run_agreed

# In the order of `Stated`, after what a row does not say because all rows of a store have it: its namespace and mode.
_COMPARED = (
    charges.c.intent_id,
    charges.c.attempt,
    charges.c.idempotency_key,
    charges.c.state,
    charges.c.amount,
    charges.c.currency,
    charges.c.provider_intent_id,
    charges.c.provider_charge_id,
)
_ROWS = select(*_COMPARED).where(among(charges.c.intent_id, "of_intents"), IS_CHARGE)
_OF_RUN = agreed.c.run_id == bindparam("of_run")
_DELETE_SEEN = delete(agreed).where(_OF_RUN, among(agreed.c.object_id, "of_objects"))
_NAMES = each("of_objects")
_INSERT = insert(agreed).from_select(
    ["run_id", "object_id", "kind", "state"],
    select(
        bindparam("for_run", type_=agreed.c.run_id.type),
        _NAMES.c.value,
        bindparam("for_kind", type_=agreed.c.kind.type),
        bindparam("for_state", type_=agreed.c.state.type),
    ),
)
_AMONG = select(agreed.c.object_id, agreed.c.kind, agreed.c.state).where(
    _OF_RUN, among(agreed.c.object_id, "of_objects")
)
COUNT_CHARGES = (
    select(func.count()).select_from(agreed).where(_OF_RUN, agreed.c.kind == literal_column(f"'{Kind.CHARGE}'"))
)


def rows_as_stated(tx: Transaction, binding: Binding, plain: Iterable[Plain]) -> set[Stated]:
    """Return what the rows of these objects' intents state, as objects do."""
    of = {"of_intents": packed({one.stated.intent_id for one in plain})}
    namespace, live = binding.namespace, binding.live
    rows: Any = tx.execute(_ROWS, of).all()
    return {Stated(namespace, live, *row) for row in rows}


def keep_agreed(tx: Transaction, run_id: str, found: Iterable[Plain]) -> None:
    """Keep the names of objects that agree, none of which the run has kept before."""
    groups: dict[tuple[Kind, State], list[str]] = {}
    for one in found:
        groups.setdefault((one.kind, one.stated.state), []).append(one.object_id)
    for (kind, state), names in groups.items():
        of = {"for_run": run_id, "for_kind": kind, "for_state": state, "of_objects": packed(names)}
        tx.execute(_INSERT, of)


def forget_seen(tx: Transaction, run_id: str, seen: str) -> None:
    """Forget that these objects (a packed set of names) agree: they were listed once more."""
    tx.execute(_DELETE_SEEN, {"of_run": run_id, "of_objects": seen})


def agreed_items(
    tx: Transaction, run_id: str, binding: Binding, rows: Iterable[Charge]
) -> dict[AttemptKey, list[Item]]:
    """Return the objects that agree with these rows, in our words, by attempt: they stand beside others of theirs."""
    by_id: dict[str, Charge] = {}
    for charge in rows:
        for name in (charge.provider_intent_id, charge.provider_charge_id):
            if name is not None:
                by_id[name] = charge
    found: dict[AttemptKey, list[Item]] = {}
    if by_id:
        of = {"of_run": run_id, "of_objects": packed(by_id)}
        told: Any = tx.execute(_AMONG, of)
        for object_id, kind, state in told:
            charge = by_id[object_id]
            item = Plain(object_id, Kind(kind), _stated(charge, binding, State(state))).item()
            found.setdefault((charge.intent_id, charge.attempt), []).append(item)
    return found


def _stated(charge: Charge, binding: Binding, state: State) -> Stated:
    return Stated(
        binding.namespace,
        binding.live,
        charge.intent_id,
        charge.attempt,
        charge.idempotency_key,
        state,
        charge.amount,
        charge.currency,
        charge.provider_intent_id or "",
        charge.provider_charge_id or "",
    )
