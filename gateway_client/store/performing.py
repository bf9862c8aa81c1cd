"""Every database effect of charging with the function that performs it, and what is told of a send that has ended."""

from __future__ import annotations

from typing import Any

from gateway_client.charge import Charge
from gateway_client.flow.effects import Claim, DatabaseEffect, ReadPending, Settle
from gateway_client.store import claim, gate, leases, settle, upon  # noqa: F401 - each says what it performs
from gateway_client.store.facts import read_untouched
from gateway_client.store.reading import read_page
from gateway_client.store.registry import perform, performs
from gateway_client.telemetry import SendEnded
from gateway_client.transaction import Ahead, Transaction

__all__ = ["ahead_of", "perform", "read_pending", "send_ended"]


@performs(ReadPending)
def read_pending(tx: Transaction, effect: ReadPending) -> tuple[Charge, ...]:
    """Read a page of the pending charges, oldest first."""
    return read_page(tx, effect.after, effect.rows_max)


def ahead_of(effect: DatabaseEffect[Any]) -> Ahead | None:
    """What reads, for several effects of one kind together, what each of them begins with; None: nothing does."""
    return read_untouched if isinstance(effect, Claim) else None


def send_ended(effect: Settle, charge: Charge) -> SendEnded | None:
    """The record of a settled send."""
    if effect.send_no is None:
        return None
    answer = effect.answer
    return SendEnded(
        charge.intent_id,
        charge.attempt,
        effect.send_no,
        charge.state,
        answer.name,
        answer.status,
        answer.request_id,
        answer.elapsed_ms,
    )
