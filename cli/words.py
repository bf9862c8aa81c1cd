"""Charges in words for people: what a state means, and what to do next. Programs read `Charge.as_json`."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway_client import Charge


def money(charge: Charge) -> str:
    """The amount as people write it."""
    from gateway_client.money import shown

    return shown(charge.amount, charge.currency)


def line(charge: Charge) -> str:
    """A charge on one line."""
    why = f"  {charge.reason}" if charge.reason else ""
    return f"{charge.intent_id}  attempt {charge.attempt}  {money(charge)}  {charge.state}{why}"


def block(charge: Charge, *, newest: bool = True) -> list[str]:
    """A charge as a small table: what it came to, what that means and, for the newest attempt, what to do."""
    from gateway_client.charge import iso
    from gateway_client.state import MEANING

    rows = {
        "meaning": MEANING[charge.state],
        "reason": charge.reason,
        "amount": money(charge),
        "charge": charge.provider_charge_id,
        "intent": charge.provider_intent_id,
        "sends": str(charge.sends),
        "not after": iso(charge.not_after),
        "lease": lease(charge),
        "next try": f"workers leave it alone until {iso(charge.resume_at)}" if resting(charge) else None,
        "next": next_step(charge) if newest else "",
    }
    told = [f"  {name:<8} {text}" for name, text in rows.items() if text]
    return [f"{charge.intent_id}, attempt {charge.attempt}: {charge.state}", *told]


def lease(charge: Charge) -> str | None:
    """Which worker is at a pending charge, and until when; of a dead one's it says that it is over."""
    from gateway_client.charge import iso

    if not charge.pending or charge.leased_by is None or charge.leased_until is None:
        return None
    over = ", which is over: the next worker takes it" if past(charge.leased_until) else ""
    return f"leased by {charge.leased_by} until {iso(charge.leased_until)}{over}"


def resting(charge: Charge) -> bool:
    """True while workers leave a pending charge alone."""
    return charge.pending and charge.resume_at is not None and not past(charge.resume_at)


def past(until: datetime) -> bool:
    """True when a lease or a back-off that ends then keeps no worker away: it is over, or of a clock that was ahead."""
    from gateway_client.charge import HELD_MAX

    now = datetime.now(UTC)
    return until <= now or until > now + HELD_MAX


def next_step(charge: Charge) -> str:  # noqa: PLR0911 - one state a line
    """What a person can do now; "" when nothing is left to do."""
    from gateway_client import State

    named = shlex.quote(charge.intent_id)
    match charge.state:
        case State.SUCCEEDED:
            return ""
        case State.PREPARED:
            return "run the same command again, or `paycli resume`"
        case State.PROCESSING:
            return "`paycli resume` asks for the result"
        case State.REQUIRES_ACTION:
            return f"`paycli resume` once the customer has acted, or `paycli cancel {named} --because …`"
        case State.CONFLICT:
            return f"look at it with `paycli show {named}`; `paycli resume` looks for the truth at the provider"
        case State.SENDING | State.UNKNOWN:
            return "`paycli resume`; it has not failed, so do not charge it under another intent id"
    return f"to try anew: `paycli charge {named} --attempt {charge.attempt + 1} …`"


def not_canceled(charge: Charge) -> str:
    """Why giving up a charge did not make sure that it is never charged."""
    from gateway_client import State

    if charge.state is State.SUCCEEDED:
        return f"{charge.intent_id} has succeeded: the money moved before it could be given up; a refund is up to you"
    return (
        f"{charge.intent_id} is {charge.state}: it is not sent again, but an earlier send may have charged it; "
        "`paycli resume` finds out"
    )
